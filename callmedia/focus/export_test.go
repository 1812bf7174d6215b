package focus

import "crypto/x509"

// TrustOnly lets a service look users up at homeservers whose certificates roots has signed, and at no others. Tests of the public
// interface use homeservers with an authority of their own.
func TrustOnly(s *Service, roots *x509.CertPool) {
	s.users = newOpenIDLookup(s.cfg.Allowed, roots, s.cfg.Own)
}

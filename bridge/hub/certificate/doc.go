// Package certificate is where the program's TLS listeners have their certificates from: two PEM files ([OpenFiles]), which are
// looked at again while the program runs, or an ACME authority ([NewACME], RFC 8555).
//
// Both are a [Source], which crypto/tls asks at each handshake ([tls.Config.GetCertificate]); [Source.Of] makes one for a server that
// knows no names. A Source may be asked from any goroutine. Files starts no goroutine. An ACME obtains certificates in Run alone, so
// that no stranger's handshake can begin an order; from then on autocert renews them by timers of its own, which last as long as
// the process.
package certificate

import "crypto/tls"

// Source gives a server's certificate for a client's greeting.
type Source func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// Of returns what Source gives to a client of today that asks for name.
func (s Source) Of(name string) func() (*tls.Certificate, error) {
	// autocert chooses the kind of key by what a client can do, and an empty greeting can do nothing.
	hello := tls.ClientHelloInfo{
		ServerName:       name,
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		SupportedCurves:  []tls.CurveID{tls.X25519, tls.CurveP256},
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	}
	return func() (*tls.Certificate, error) {
		h := hello
		return s(&h)
	}
}

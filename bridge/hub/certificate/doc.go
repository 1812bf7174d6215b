// Package certificate gives the program's TLS listeners their certificates: from two PEM files ([OpenFiles]), which are read again while
// the program runs, or from an ACME authority ([NewACME], RFC 8555).
//
// Both have a method Certificate, which is a [Source]. crypto/tls calls it at each handshake ([tls.Config.GetCertificate]). [Source.Of] is for
// servers that do not know which name a client asks for. A Source may be called from any goroutine. [Files] starts no goroutine. [ACME] obtains
// certificates in Run only, so that no stranger's handshake can begin an order. Afterwards autocert renews them by timers of its own, which
// run as long as the process.
package certificate

import "crypto/tls"

// Source returns a server's certificate for a client's hello.
type Source func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// Of returns a function that returns the certificate for a client that asks for name and supports ECDSA.
func (s Source) Of(name string) func() (*tls.Certificate, error) {
	// autocert chooses the type of key by what the client supports, and an empty hello supports nothing.
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

package rig

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// authority is the throw-away certificate authority of this process, and a certificate of its for localhost.
type authority struct {
	pem  []byte
	pool *x509.CertPool
	leaf tls.Certificate
}

var theAuthority = sync.OnceValues(newAuthority)

func newAuthority() (*authority, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ewindow test authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, &key.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	a := &authority{
		pem:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}),
		pool: x509.NewCertPool(),
		leaf: tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: key},
	}
	a.pool.AppendCertsFromPEM(a.pem)
	return a, nil
}

func needAuthority(t testing.TB) *authority {
	t.Helper()
	a, err := theAuthority()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// CAFile writes the certificate of the rig's authority (PEM) into the test's temporary folder and returns its path.
func CAFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, needAuthority(t).pem, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Certificate is a certificate of the rig's authority for localhost and 127.0.0.1, for servers of a test's own.
func Certificate(t testing.TB) tls.Certificate {
	t.Helper()
	return needAuthority(t).leaf
}

// HTTPClient returns a client that trusts the rig's authority and nobody else.
func HTTPClient(t testing.TB) *http.Client {
	t.Helper()
	wire := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: needAuthority(t).pool}}
	t.Cleanup(wire.CloseIdleConnections)
	return &http.Client{Transport: wire, Timeout: time.Minute}
}

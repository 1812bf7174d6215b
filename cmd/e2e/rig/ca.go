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

// authority is a certificate authority that lives as long as this process, and its certificate for localhost.
type authority struct {
	root *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
	pool *x509.CertPool
	leaf tls.Certificate
}

var sharedAuthority = sync.OnceValues(newAuthority)

func newAuthority() (*authority, error) {
	now := time.Now()
	a := &authority{pool: x509.NewCertPool(), root: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ewindow test authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, a.root, a.root, &a.key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	a.pool.AppendCertsFromPEM(a.pem)
	a.leaf, err = a.issue([]string{"localhost"}, net.IPv4(127, 0, 0, 1))
	return a, err
}

// issue makes a certificate for host names and an IP address, with a new key.
func (a *authority) issue(names []string, address net.IP) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "ewindow test server"},
		NotBefore: a.root.NotBefore, NotAfter: a.root.NotAfter, DNSNames: names, IPAddresses: []net.IP{address},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.root, &key.PublicKey, a.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func testAuthority(t testing.TB) *authority {
	t.Helper()
	a, err := sharedAuthority()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// CAFile writes the rig's root certificate (PEM) into the test's temporary folder and returns its path.
func CAFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, testAuthority(t).pem, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Certificate returns a certificate of the rig's authority for localhost and 127.0.0.1, for servers that a test runs itself.
func Certificate(t testing.TB) tls.Certificate {
	t.Helper()
	return testAuthority(t).leaf
}

// CertificateFiles writes a certificate of the rig's authority for an IP address and names, and its key (PEM), into the test's temporary folder, and
// returns their paths.
func CertificateFiles(t testing.TB, address string, names ...string) (certificate, key string) {
	t.Helper()
	pair, err := testAuthority(t).issue(names, net.ParseIP(address))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	certificate, key = filepath.Join(folder, "certificate.pem"), filepath.Join(folder, "key.pem")
	for path, block := range map[string]*pem.Block{
		certificate: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}

// HTTPClient returns a client that trusts only the rig's authority.
func HTTPClient(t testing.TB) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: testAuthority(t).pool}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

package certificate_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bridge/hub/certificate"
)

// pair makes a self-signed certificate and its key, in PEM form.
func pair(t *testing.T, serial int64, until time.Time) (chain, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "hub"}, NotBefore: until.AddDate(-1, 0, 0), NotAfter: until,
		DNSNames: []string{"hub.example.org"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// folder is the folder with the two files of a test.
type folder struct {
	t          *testing.T
	chain, key string
}

func newFolder(t *testing.T) folder {
	dir := t.TempDir()
	return folder{t, filepath.Join(dir, "hub.pem"), filepath.Join(dir, "hub-key.pem")}
}

func (f folder) put(chain, key []byte) {
	f.t.Helper()
	for path, data := range map[string][]byte{f.chain: chain, f.key: key} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
}

// serial returns the serial number of the certificate that is in use.
func serial(t *testing.T, f *certificate.Files) int64 {
	t.Helper()
	c, err := f.Certificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf.SerialNumber.Int64()
}

// TestRenewed replaces the files while a program runs: by good ones, a half-written one, ones that do not fit, none, and good ones again.
func TestRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		dir := newFolder(t)
		until := time.Now().AddDate(0, 3, 0)
		chain1, key1 := pair(t, 1, until)
		chain2, key2 := pair(t, 2, until)
		chain3, key3 := pair(t, 3, until)
		dir.put(chain1, key1)
		f, err := certificate.OpenFiles(dir.chain, dir.key, zerolog.New(&log))
		if err != nil {
			t.Fatal(err)
		}
		minute := func() { <-time.After(time.Minute) }
		is := func(when string, want int64) {
			t.Helper()
			if got := serial(t, f); got != want {
				t.Errorf("%s: certificate %d is in use, want %d", when, got, want)
			}
		}
		warnings := func(when string, want int) {
			t.Helper()
			if n := strings.Count(log.String(), `"level":"warn"`); n != want {
				t.Errorf("%s: %d warnings, want %d:\n%s", when, n, want, &log)
			}
		}

		is("at first", 1)
		dir.put(chain2, key2)
		is("at once after the change", 1) // the files are not read for each handshake
		minute()
		is("a minute after", 2)

		dir.put(chain3, key2)
		minute()
		is("with the new certificate and the old key", 2)
		dir.put(chain3[:len(chain3)/2], key3)
		minute()
		is("with half a certificate", 2)
		if err := os.Remove(dir.key); err != nil {
			t.Fatal(err)
		}
		minute()
		is("without a key", 2)
		warnings("while it is broken", 1)
		dir.put(chain3, key3)
		minute()
		is("whole again", 3)
		dir.put(nil, key3)
		minute()
		is("emptied", 3)
		warnings("broken for the second time", 2)
		dir.put(chain3, key3)
		minute()
		is("as it was", 3)

		// Size and modification time stay the same; only the content changes.
		before, err := os.Stat(dir.chain)
		if err != nil {
			t.Fatal(err)
		}
		dir.put(chain1, key1)
		for _, path := range []string{dir.chain, dir.key} {
			if err := os.Chtimes(path, before.ModTime(), before.ModTime()); err != nil {
				t.Fatal(err)
			}
		}
		minute()
		is("put back with its old time", 1)
		warnings("at the end", 2)
		if strings.Contains(log.String(), "PRIVATE KEY") || strings.Contains(log.String(), string(key1[40:60])) {
			t.Error("a key is in the log")
		}
	})
}

// TestLink renews a certificate as certbot does: the configured path is a link, which then points to another file.
func TestLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, live := newFolder(t), newFolder(t)
		until := time.Now().AddDate(0, 3, 0)
		dir.put(pair(t, 1, until))
		point := func(from, to string) {
			if err := os.Symlink(to, from+".new"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(from+".new", from); err != nil {
				t.Fatal(err)
			}
		}
		point(live.chain, dir.chain)
		point(live.key, dir.key)
		f, err := certificate.OpenFiles(live.chain, live.key, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		next := newFolder(t)
		next.put(pair(t, 2, until))
		point(live.chain, next.chain)
		point(live.key, next.key)
		<-time.After(time.Minute)
		if got := serial(t, f); got != 2 {
			t.Errorf("certificate %d is in use after the links changed", got)
		}
	})
}

func TestOpenFilesRefused(t *testing.T) {
	until := time.Now().AddDate(0, 3, 0)
	chain, key := pair(t, 1, until)
	_, other := pair(t, 2, until)
	for name, files := range map[string][2][]byte{
		"no certificate": {nil, key}, "no key": {chain, nil}, "another's key": {chain, other}, "too large": {bytes.Repeat([]byte("\n"), 2<<20), key},
	} {
		dir := newFolder(t)
		dir.put(files[0], files[1])
		if f, err := certificate.OpenFiles(dir.chain, dir.key, zerolog.Nop()); f != nil || err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if f, err := certificate.OpenFiles("/nothing/here.pem", "/nothing/there.pem", zerolog.Nop()); f != nil || err == nil {
		t.Error("missing files: accepted")
	}
}

// TestRunOut checks that the log has a warning if the certificate has expired.
func TestRunOut(t *testing.T) {
	var log bytes.Buffer
	dir := newFolder(t)
	dir.put(pair(t, 1, time.Now().Add(-time.Hour)))
	if _, err := certificate.OpenFiles(dir.chain, dir.key, zerolog.New(&log)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "has run out") {
		t.Errorf("logged:\n%s", &log)
	}
}

package certificate

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

const (
	// lookEvery is how long a renewed certificate may go unnoticed. Files are small, so that they are read whole each time: a
	// modification time says nothing where a file was put in place by a link, or twice within a tick of the file system's clock.
	lookEvery = 15 * time.Second
	maxFile   = 1 << 20 // bytes, far above any chain
)

// Files is the certificate in two PEM files. It notices renewed ones within 15 seconds of the next handshake's asking.
type Files struct {
	certificate, key string
	log              zerolog.Logger
	current          atomic.Pointer[tls.Certificate]

	mu     sync.Mutex // guards what follows; who holds it looks at the files, and the others go on with what there is
	looked time.Time
	seen   [sha256.Size]byte // of what was read last, whether or not it could be used
	broken bool              // said in the log, and not to be said again
}

// OpenFiles reads a certificate chain and its key (PEM). Both must be right now; what is wrong later leaves the last right pair in use.
func OpenFiles(certificate, key string, log zerolog.Logger) (*Files, error) {
	f := &Files{certificate: certificate, key: key, log: log, looked: time.Now()}
	chain, private, err := f.read()
	if err != nil {
		return nil, err
	}
	f.seen = sum(chain, private)
	pair, err := tls.X509KeyPair(chain, private)
	if err != nil {
		return nil, err
	}
	f.use(&pair, "The certificate is in use")
	return f, nil
}

// Certificate is a Source. It never fails.
func (f *Files) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if f.mu.TryLock() { // a handshake that comes meanwhile must not wait for a slow disk
		f.look(time.Now())
		f.mu.Unlock()
	}
	return f.current.Load(), nil
}

// look takes the files' pair if it has changed and can be used. The caller holds mu.
func (f *Files) look(now time.Time) {
	if passed := now.Sub(f.looked); passed >= 0 && passed < lookEvery {
		return
	}
	f.looked = now
	chain, private, err := f.read()
	if err != nil {
		f.complain(err)
		return
	}
	read := sum(chain, private)
	if read == f.seen && !f.broken {
		return
	}
	f.seen = read
	pair, err := tls.X509KeyPair(chain, private)
	if err != nil {
		f.complain(err)
		return
	}
	f.broken = false
	f.use(&pair, "The renewed certificate is in use")
}

// complain says once that the files are of no use, until they are again.
func (f *Files) complain(err error) {
	if f.broken {
		return
	}
	f.broken = true
	f.log.Warn().Err(err).Str("certificate", f.certificate).Str("key", f.key).Time("in_use_until", f.current.Load().Leaf.NotAfter).
		Msg("The certificate's files have changed and can't be used, so the old certificate stays in use: put a certificate and the key that belongs to it there")
}

func (f *Files) use(pair *tls.Certificate, message string) {
	f.current.Store(pair)
	until := pair.Leaf.NotAfter
	if time.Now().After(until) {
		f.log.Warn().Str("certificate", f.certificate).Time("until", until).
			Msg("The certificate has run out, so clients will refuse it: renew it")
		return
	}
	f.log.Info().Str("certificate", f.certificate).Time("until", until).Msg(message)
}

// read reads both files.
func (f *Files) read() (chain, private []byte, err error) {
	if chain, err = readFile(f.certificate); err == nil {
		private, err = readFile(f.key)
	}
	return chain, private, err
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return data, err
}

func sum(chain, private []byte) [sha256.Size]byte {
	a, b := sha256.Sum256(chain), sha256.Sum256(private)
	return sha256.Sum256(append(a[:], b[:]...))
}

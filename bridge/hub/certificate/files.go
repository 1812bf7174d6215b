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
	// rereadEvery is how often the files are read. They are small, so they are read whole. The modification time does not show every change:
	// a link's target may have the same time, and two changes may happen in one tick of the file system's clock.
	rereadEvery = 15 * time.Second
	maxFile     = 1 << 20 // bytes; far above any chain
)

// Files is the certificate in two PEM files. A handshake makes it read the files again if 15 seconds have passed since the last time.
type Files struct {
	certificate, key string
	log              zerolog.Logger
	current          atomic.Pointer[tls.Certificate]

	mu       sync.Mutex // guards what follows; held while the files are read
	lastRead time.Time
	seen     [sha256.Size]byte // hash of what was read last, whether or not it could be used
	broken   bool              // a warning was logged, and must not be repeated
}

// OpenFiles reads a certificate chain and its key (PEM). It returns an error if they can't be used. If the files can't be used later, the
// last good pair stays in use.
func OpenFiles(certificate, key string, log zerolog.Logger) (*Files, error) {
	f := &Files{certificate: certificate, key: key, log: log, lastRead: time.Now()}
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
	if f.mu.TryLock() { // handshakes do not wait while another one reads from a slow disk
		f.rereadLocked(time.Now())
		f.mu.Unlock()
	}
	return f.current.Load(), nil
}

// rereadLocked reads the files if it is time, and uses them if they have changed. The caller holds mu.
func (f *Files) rereadLocked(now time.Time) {
	if passed := now.Sub(f.lastRead); passed >= 0 && passed < rereadEvery {
		return
	}
	f.lastRead = now
	chain, private, err := f.read()
	if err != nil {
		f.warnLocked(err)
		return
	}
	read := sum(chain, private)
	if read == f.seen && !f.broken {
		return
	}
	f.seen = read
	pair, err := tls.X509KeyPair(chain, private)
	if err != nil {
		f.warnLocked(err)
		return
	}
	f.broken = false
	f.use(&pair, "The renewed certificate is in use")
}

// warnLocked logs once that the files can't be used, until they can be used again. The caller holds mu.
func (f *Files) warnLocked(err error) {
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

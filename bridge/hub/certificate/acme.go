package certificate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"multifactorymodel.org/ewindow/bot/backoff"
)

// ALPN is the protocol that an authority's TLS-ALPN-01 check offers (RFC 8737). A listener must accept it to pass the check.
const ALPN = acme.ALPNProto

const (
	// The shortest and the longest pause after a failure. Let's Encrypt allows five failed checks of a name in an hour, and one try may
	// need two checks.
	firstRetry = 10 * time.Minute
	lastRetry  = time.Hour
	// checkEvery is how often Run checks whether a certificate was renewed in time.
	checkEvery = 12 * time.Hour
	// stopLimit is how long Run waits at its end for a try that is under way, after the try's requests were cancelled.
	stopLimit = 5 * time.Second
	// requestLimit is how long the authority may take for one answer.
	requestLimit = time.Minute
)

// ACMEConfig is what an ACME is made of.
type ACMEConfig struct {
	// Names are the DNS names to get certificates for, one certificate each. There is at least one name, and each has a dot. A client that
	// asks for no name, or for an address, gets the certificate of the first name.
	Names []string
	// Email is where the authority sends notices; it may be empty.
	Email string
	// DirectoryURL is the authority's ACME directory.
	DirectoryURL string
	// Cache is the folder for the account, the certificates and their keys. It is made if it does not exist; only its owner can read it.
	Cache string
	Log   zerolog.Logger
}

// ACME obtains certificates from an authority and keeps them renewed. Make one with NewACME, and let Run run.
type ACME struct {
	names   []string
	url     string
	log     zerolog.Logger
	manager *autocert.Manager
	over    context.Context // ends with Run, and cancels all requests to the authority
	end     context.CancelFunc

	mu    sync.Mutex      // guards ready
	ready map[string]bool // names that have a certificate
}

// NewACME checks a configuration. It sends nothing.
func NewACME(cfg ACMEConfig) (*ACME, error) {
	if len(cfg.Names) == 0 {
		return nil, errors.New("no name to get a certificate for")
	}
	a := &ACME{url: cfg.DirectoryURL, log: cfg.Log, ready: make(map[string]bool)}
	a.over, a.end = context.WithCancel(context.Background())
	for _, name := range cfg.Names {
		name = strings.ToLower(name)
		if err := CheckName(name); err != nil {
			return nil, err
		}
		if !slices.Contains(a.names, name) {
			a.names = append(a.names, name)
		}
	}
	if err := os.MkdirAll(cfg.Cache, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for certificates: %w", err)
	}
	client := &http.Client{Timeout: requestLimit, Transport: bound{a.over, http.DefaultTransport}}
	a.manager = &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(cfg.Cache), HostPolicy: autocert.HostWhitelist(a.names...), Email: cfg.Email,
		Client: &acme.Client{DirectoryURL: cfg.DirectoryURL, HTTPClient: client, UserAgent: "ewindow"},
	}
	return a, nil
}

// bound cancels requests when over ends. It is needed because autocert uses contexts of its own for its requests.
type bound struct {
	over context.Context
	http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (b bound) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := b.over.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(b.over, cancel)
	answer, err := b.RoundTripper.RoundTrip(r.WithContext(ctx))
	if err != nil {
		stop()
		cancel()
		return nil, err
	}
	answer.Body = &body{answer.Body, func() { stop(); cancel() }}
	return answer, nil
}

// body calls closed when a response was read.
type body struct {
	io.ReadCloser
	closed func()
}

// Close implements io.Closer.
func (b *body) Close() error {
	defer b.closed()
	return b.ReadCloser.Close()
}

// CheckName returns an error if no authority can give a certificate for a name. The name must be a DNS name with a dot, in its ASCII form.
func CheckName(name string) error {
	labels := strings.Split(name, ".")
	ok := len(labels) >= 2 && len(name) <= 253
	for _, l := range labels {
		ok = ok && len(l) >= 1 && len(l) <= 63 && l[0] != '-' && l[len(l)-1] != '-' &&
			strings.Trim(l, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
	}
	if ok {
		last := labels[len(labels)-1]
		ok = strings.Trim(last, "0123456789") != "" // otherwise it is an address
	}
	if !ok {
		return fmt.Errorf("%q is not a name of the DNS such as hub.example.org", name)
	}
	return nil
}

// Handler returns a handler that answers an authority's HTTP-01 checks (RFC 8555, section 8.3), and redirects everybody else to public, the
// HTTPS address. The handler must be reachable on port 80. After Handler was called, HTTP-01 is tried if TLS-ALPN-01 fails.
func (a *ACME) Handler(public string) http.Handler {
	checks := a.manager.HTTPHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if public == "" || r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "Use HTTPS", http.StatusBadRequest)
			return
		}
		http.Redirect(w, r, strings.TrimSuffix(public, "/")+r.URL.RequestURI(), http.StatusFound)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host, _, err := net.SplitHostPort(r.Host); err == nil { // autocert compares names without a port
			r = r.Clone(r.Context())
			r.Host = host
		}
		checks.ServeHTTP(w, r)
	})
}

// Certificate is a Source. It returns an error until Run has obtained the name's certificate, and for names that are not configured.
func (a *ACME) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Contains(hello.SupportedProtos, ALPN) {
		return a.manager.GetCertificate(hello) // for the authority's check; an error for everybody else
	}
	asked := *hello
	asked.ServerName = strings.TrimSuffix(strings.ToLower(hello.ServerName), ".")
	if asked.ServerName == "" {
		asked.ServerName = a.names[0]
	}
	a.mu.Lock()
	ready := a.ready[asked.ServerName]
	a.mu.Unlock()
	if !ready {
		return nil, fmt.Errorf("no certificate is there for %q", asked.ServerName)
	}
	return a.manager.GetCertificate(&asked)
}

// Run obtains the certificates, and tries again until it has them. Then it warns if one is not renewed in time. It returns nil when ctx has
// ended, up to five seconds later if a try is under way. After that nothing is renewed any more. Run can be called once.
func (a *ACME) Run(ctx context.Context) error {
	defer a.end()
	defer context.AfterFunc(ctx, a.end)()
	var each sync.WaitGroup
	for _, name := range a.names {
		each.Go(func() { a.keep(ctx, name) })
	}
	each.Wait()
	return nil
}

// keep is Run for one name.
func (a *ACME) keep(ctx context.Context, name string) {
	retry := backoff.Backoff{Min: firstRetry, Max: lastRetry}
	for first := true; ; {
		leaf, err := a.obtain(ctx, name)
		wait := checkEvery
		if err == nil {
			retry.Reset()
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			wait = retry.Next()
			a.log.Warn().Err(err).Str("name", name).Str("authority", a.url).Stringer("next_try_in", wait).
				Msg("No certificate could be obtained: the name must lead to this machine in the DNS, and the authority must reach it on port 80 or 443")
		case first:
			first = false
			a.mu.Lock()
			a.ready[name] = true
			a.mu.Unlock()
			a.log.Info().Str("name", name).Str("authority", a.url).Time("until", leaf.until).Msg("The certificate is in use")
		case leaf.late(time.Now()):
			a.log.Warn().Str("name", name).Str("authority", a.url).Time("until", leaf.until).
				Msg("The certificate should have been renewed by now: look whether the authority still reaches this machine on port 80 or 443")
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// lifetime is the time in which a certificate is valid.
type lifetime struct{ from, until time.Time }

// late says whether a certificate should have been renewed by now. autocert begins when a third of the lifetime is left, or 30 days.
func (l lifetime) late(now time.Time) bool {
	left := min(l.until.Sub(l.from)/3, 30*24*time.Hour)
	return l.until.Sub(now) < left*2/3
}

// obtain returns the lifetime of a name's certificate. It orders one if there is none.
func (a *ACME) obtain(ctx context.Context, name string) (l lifetime, err error) {
	type result struct {
		pair *tls.Certificate
		err  error
	}
	done := make(chan result, 1)
	go func() { // autocert takes no context, and gives up after five minutes; done has room, so this goroutine always ends
		pair, err := Source(a.manager.GetCertificate).Of(name)()
		done <- result{pair, err}
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		select {
		case r = <-done:
		case <-time.After(stopLimit):
			return l, ctx.Err()
		}
	}
	if r.err != nil {
		return l, r.err
	}
	return lifetime{r.pair.Leaf.NotBefore, r.pair.Leaf.NotAfter}, nil
}

package focus

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

const secretToken = "very-secret-openid-token"

// homeserver starts a TLS server that acts as a homeserver, or as an attacker. Its name is 127.0.0.1:PORT. Its certificate is good for
// example.com, too.
func homeserver(t *testing.T, handler http.HandlerFunc) (name string, roots *x509.CertPool) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	roots = x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.Listener.Addr().String(), roots
}

func loopback(a netip.Addr) bool { return a.IsLoopback() }

func TestLookup(t *testing.T) {
	answer := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, strings.ReplaceAll(text, "HERE", r.Host)) }
	}
	var asked atomic.Int64
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    string // in the error; empty for success
	}{
		"right": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/_matrix/federation/v1/openid/userinfo" || r.URL.Query().Get("access_token") != secretToken {
				http.Error(w, "{}", http.StatusUnauthorized)
				return
			}
			fmt.Fprintf(w, `{"sub":"@anna:%s"}`, r.Host)
		}, ""},
		"unknown token":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, "status 401"},
		"another's user":      {answer(`{"sub":"@anna:example.org"}`), "user of another one"},
		"another port's user": {answer(`{"sub":"@anna:127.0.0.1"}`), "user of another one"},
		"longer name":         {answer(`{"sub":"@anna:HERE.evil"}`), "user of another one"},
		"no user":             {answer(`{"sub":"@:HERE"}`), "names no user"},
		"no JSON":             {answer(`<html>`), "not the expected JSON"},
		"empty":               {answer(``), "not the expected JSON"},
		"huge": {func(w http.ResponseWriter, r *http.Request) {
			chunk := []byte(strings.Repeat(" ", 1<<10))
			for r.Context().Err() == nil {
				if _, err := w.Write(chunk); err != nil {
					return
				}
				asked.Add(int64(len(chunk)))
			}
		}, "too long"},
		"huge headers": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Filler", strings.Repeat("a", 1<<20)) }, "ask the homeserver"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			if asked.Add(1); r.URL.Path != "/elsewhere" {
				http.Redirect(w, r, "/elsewhere", http.StatusFound)
				return
			}
			fmt.Fprintf(w, `{"sub":"@anna:%s"}`, r.Host)
		}, "status 302"},
	} {
		t.Run(name, func(t *testing.T) {
			server, roots := homeserver(t, c.handler)
			user, err := newOpenIDLookup(loopback, roots, nil).user(t.Context(), server, secretToken)
			if c.want == "" {
				if err != nil || user.String() != "@anna:"+server {
					t.Errorf("%q, %v", user, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || user != "" {
				t.Errorf("%q, %v, want %q", user, err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), secretToken) {
				t.Errorf("the error holds the token: %v", err)
			}
		})
	}
}

// TestLookupOwn looks up a user of the hub's own homeserver. Its name leads nowhere, and its address is one that the policy refuses.
func TestLookupOwn(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("access_token") != secretToken {
			http.Error(w, "{}", http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"sub":"@anna:workshop.invalid"}`)
	}))
	t.Cleanup(server.Close)
	address := ""
	d := newOpenIDLookup(addrpolicy.Public, nil, func() (string, string) { return "workshop.invalid", address })
	if user, err := d.user(t.Context(), "workshop.invalid", secretToken); err == nil {
		t.Errorf("without a homeserver, the user is %s", user)
	}
	address = server.URL
	if user, err := d.user(t.Context(), "workshop.invalid", secretToken); err != nil || user != "@anna:workshop.invalid" {
		t.Errorf("%q, %v", user, err)
	}
	if user, err := d.user(t.Context(), "workshop.invalid", "wrong"); err == nil || !strings.Contains(err.Error(), "status 401") {
		t.Errorf("a wrong token is that of %q, %v", user, err)
	}
	if user, err := d.user(t.Context(), "other.invalid", secretToken); err == nil {
		t.Errorf("another homeserver's user is %s", user)
	}
}

// TestLookupRefusesAddresses demands that no address is connected to that the policy does not allow, whatever a name resolves to.
func TestLookupRefusesAddresses(t *testing.T) {
	var reached atomic.Int64
	server, roots := homeserver(t, func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		fmt.Fprintf(w, `{"sub":"@anna:%s"}`, r.Host)
	})
	_, port, _ := net.SplitHostPort(server)
	d := newOpenIDLookup(addrpolicy.Public, roots, nil)
	for _, name := range []string{server, "127.0.0.1:" + port, "[::1]:" + port, "[::ffff:127.0.0.1]:" + port, "0.0.0.0:" + port, "localhost:" + port, "169.254.169.254:80"} {
		_, err := d.user(t.Context(), name, secretToken)
		if !errors.Is(err, addrpolicy.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("a private address was reached %d times", n)
	}
	// The certificate must be trusted, and must be for the server's name.
	if _, err := newOpenIDLookup(loopback, nil, nil).user(t.Context(), server, secretToken); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a foreign certificate: %v", err)
	}
	if _, err := newOpenIDLookup(loopback, roots, nil).user(t.Context(), "localhost:"+port, secretToken); err == nil {
		t.Error("a certificate for another name is good enough")
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("a server without the right certificate was sent %d tokens", n)
	}
}

// TestReachable asks the policies about all kinds of addresses: the default one, and one that allows everything.
func TestReachable(t *testing.T) {
	private := func(netip.Addr) bool { return true }
	for _, c := range []struct {
		address        string
		public, opened bool
	}{
		{"9.9.9.9", true, true}, {"2620:fe::fe", true, true}, {"::ffff:9.9.9.9", true, true}, {"64:ff9b::909:909", true, true},
		{"2002:909:909::1", true, true},
		{"127.0.0.1", false, true}, {"127.9.9.9", false, true}, {"10.1.2.3", false, true}, {"172.31.0.1", false, true},
		{"192.168.1.1", false, true}, {"169.254.169.254", false, true}, {"100.64.0.1", false, true}, {"198.18.0.1", false, true},
		{"::1", false, true}, {"fe80::1", false, true}, {"fe80::1%eth0", false, true}, {"fd00::1", false, true},
		{"::ffff:127.0.0.1", false, true}, {"::ffff:10.0.0.1", false, true}, {"::127.0.0.1", false, true}, {"64:ff9b::7f00:1", false, true},
		{"64:ff9b::a9fe:a9fe", false, true}, {"2002:7f00:1::1", false, true}, {"2002:c0a8:101::", false, true},
		{"0.0.0.0", false, false}, {"0.1.2.3", false, false}, {"::", false, false}, {"224.0.0.1", false, false}, {"255.255.255.255", false, false},
		{"ff02::1", false, false}, {"240.0.0.1", false, false}, {"2001::1", false, false}, {"::ffff:0.0.0.0", false, false},
		{"64:ff9b::", false, false}, {"2002:e000:1::1", false, false},
	} {
		a := netip.MustParseAddr(c.address)
		if got := addrpolicy.Public(a); got != c.public {
			t.Errorf("%s is reachable by default: %t", c.address, got)
		}
		if got := addrpolicy.Reachable(a, private); got != c.opened {
			t.Errorf("%s is reachable where all are allowed: %t", c.address, got)
		}
	}
	if addrpolicy.Reachable(netip.Addr{}, private) {
		t.Error("no address is reachable")
	}
}

// TestWellKnown follows a homeserver's delegation, and gives up on a bad one. All connections to names without a port go to the test's
// server, which delegates to itself.
func TestWellKnown(t *testing.T) {
	for name, c := range map[string]struct {
		wellKnown func(w http.ResponseWriter, r *http.Request, own string)
		ok        bool
		want      string
	}{
		"delegated": {func(w http.ResponseWriter, _ *http.Request, own string) { fmt.Fprintf(w, `{"m.server":%q}`, own) }, true, ""},
		"redirected": {func(w http.ResponseWriter, r *http.Request, own string) {
			if r.URL.Path != "/once" {
				http.Redirect(w, r, "/once", http.StatusFound)
				return
			}
			fmt.Fprintf(w, `{"m.server":%q}`, own)
		}, true, ""},
		"no name": {func(w http.ResponseWriter, _ *http.Request, _ string) { fmt.Fprint(w, `{"m.server":"a b/c?d@e"}`) }, false, "not a server name"},
		"private address": {func(w http.ResponseWriter, _ *http.Request, _ string) {
			fmt.Fprint(w, `{"m.server":"192.168.1.1:443"}`)
		}, false, addrpolicy.ErrDenied.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			var own string
			server, roots := homeserver(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/_matrix/federation/v1/openid/userinfo" {
					fmt.Fprint(w, `{"sub":"@anna:example.com"}`)
					return
				}
				c.wellKnown(w, r, own)
			})
			own = server
			_, port, _ := net.SplitHostPort(server)
			d := newOpenIDLookup(loopback, roots, nil)
			ctx := context.WithValue(t.Context(), targetsKey{}, []string{"127.0.0.1:" + port})
			user, err := d.user(ctx, "example.com", secretToken)
			if c.ok != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q, %v, want %q", user, err, c.want)
			}
		})
	}
	// A delegation that can't be read counts as none (server-server API, "Resolving server names"). The look-up must end all the same.
	for name, handler := range map[string]http.HandlerFunc{
		"redirect loop": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) },
		"redirect to no encryption": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://example.com/.well-known/matrix/server", http.StatusFound)
		},
		"huge": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<12)); err != nil {
					return
				}
			}
		},
	} {
		var asked atomic.Int64
		server, roots := homeserver(t, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			handler(w, r)
		})
		_, port, _ := net.SplitHostPort(server)
		d := newOpenIDLookup(loopback, roots, nil)
		ctx := context.WithValue(t.Context(), targetsKey{}, []string{"127.0.0.1:" + port})
		_, err := d.resolve.HTTPClient.Do(must(http.NewRequestWithContext(ctx, http.MethodGet, "https://example.com/.well-known/matrix/server", nil)))
		if name != "huge" && !errors.Is(err, errRedirect) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := d.user(ctx, "example.com", secretToken); err == nil {
			t.Errorf("%s: somebody was found", name)
		}
		if n := asked.Load(); n > 2*(maxRedirects+2) {
			t.Errorf("%s: asked %d times", name, n)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestSlowHomeserver demands that a look-up gives up on a homeserver that takes connections and never answers.
func TestSlowHomeserver(t *testing.T) {
	release := make(chan struct{})
	server, roots := homeserver(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	_, err := newOpenIDLookup(loopback, roots, nil).user(t.Context(), server, secretToken)
	var late net.Error
	if !errors.As(err, &late) || !late.Timeout() || strings.Contains(err.Error(), secretToken) {
		t.Error(err)
	}
}

// TestEndlessHomeserver asks a homeserver whose answer begins at once and never ends. No limit of a single step helps there, only that of the
// whole lookup.
func TestEndlessHomeserver(t *testing.T) {
	t.Parallel() // it takes the whole limit
	server, roots := homeserver(t, func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := w.Write([]byte(" ")); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	})
	ended := make(chan error, 1)
	go func() {
		_, err := newOpenIDLookup(loopback, roots, nil).user(t.Context(), server, secretToken)
		ended <- err
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("an answer that did not end was taken")
		}
	case <-time.After(6 * lookupLimit):
		t.Error("the lookup goes on for ever")
	}
}

package rtc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/rtc/membership"
	"multifactorymodel.org/ewindow/bot/rtc/transport"
	"multifactorymodel.org/ewindow/bot/unstable"
	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

// guest is somebody in the hall's call, from a homeserver that runs here.
type guest struct {
	server    *httptest.Server
	announced string       // what the homeserver announces
	asked     atomic.Int64 // how often
	name      string       // of the homeserver
	user      id.UserID
}

// newGuest starts a homeserver, of which there is only the .well-known file.
func newGuest(t *testing.T, name string) *guest {
	g := &guest{}
	g.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/matrix/client" || g.announced == "" {
			http.NotFound(w, r)
			return
		}
		g.asked.Add(1)
		_, _ = fmt.Fprintf(w, `{"org.matrix.msc4143.rtc_foci":[{"type":"livekit","livekit_service_url":%q}]}`, g.announced)
	}))
	t.Cleanup(g.server.Close)
	g.name = strings.TrimPrefix(g.server.URL, "https://")
	g.user = id.NewUserID(name, g.name)
	return g
}

// hallCall is a call in the hall that may ask for tokens.
type hallCall struct {
	*Call
	members chan []Member // as reported
}

// enter lets a guest enter the hall's call, and say that they publish at a service.
func (c *hallCall) enter(g *guest, service string) {
	key := membership.StateKey(bot.Device{User: g.user, ID: "PHONE"})
	c.m.handleEvent(stateEvent(hall, "$m", event.StateMember, g.user, g.user.String(), `{"membership":"join"}`))
	c.m.handleEvent(stateEvent(hall, "$c"+id.EventID(g.user), typeMember, g.user, key, state("PHONE", service)))
	normal, _ := transport.ServiceURL(service)
	for members := range c.members {
		if slices.ContainsFunc(members, func(m Member) bool { return m.User == g.user && m.Service == normal }) {
			return
		}
	}
}

// newHall runs a manager in the hall. allowed is the policy for addresses that others name.
func newHall(t *testing.T, allowed func(netip.Addr) bool, hosts ...*guest) *hallCall {
	t.Helper()
	guarded := bot.NewGuardedHTTPClient(allowed)
	if len(hosts) > 0 { // the certificates of httptest's servers are all the same
		guarded.Transport.(*http.Transport).TLSClientConfig = hosts[0].server.Client().Transport.(*http.Transport).TLSClientConfig
	}
	fake := &fakeServer{faults: make(map[string]error)}
	members := make(chan []Member, 64)
	m, err := newManager(Config{OnMembers: func(_ id.RoomID, list []Member, _ []bot.Device) { members <- list }, Log: zerolog.Nop()}, fake, fake,
		transport.NewClient(http.DefaultClient, guarded))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _ = m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-m.done
	})
	m.handleEvent(stateEvent(hall, "$m", event.StateMember, alice, alice.String(), `{"membership":"join"}`))
	return &hallCall{&Call{m: m, room: hall}, members}
}

var anywhere = addrpolicy.PublicOr([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})

// TestForeignService demands that our OpenID token is sent to a service that a member names only if a homeserver of somebody who uses it announces
// it.
func TestForeignService(t *testing.T) {
	const answer = `{"url":"wss://sfu.example","jwt":"` + jwt + `"}`
	eve, bob := newGuest(t, "eve"), newGuest(t, "bob")
	service := newIssuer(t)
	service.answers["/admin/reboot"+unstable.TokenPath] = give(answer)
	service.answers["/jwt"+unstable.TokenPath] = give(answer)
	call := newHall(t, anywhere, eve, bob)
	ask := func(path string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, _, err := call.Token(ctx, service.URL+path)
		return err
	}
	if err := ask("/jwt"); !errors.Is(err, transport.ErrNotAnnounced) {
		t.Errorf("a service that nobody names: %v", err)
	}
	call.enter(eve, service.URL+"/admin/reboot")
	if err := ask("/admin/reboot"); !errors.Is(err, transport.ErrNotAnnounced) {
		t.Errorf("a service that a member has invented: %v", err)
	}
	bob.announced = service.URL + "/jwt/"
	eve.announced = service.URL + "/admin/reboot/elsewhere"
	call.enter(eve, service.URL+"/jwt")
	if err := ask("/jwt"); !errors.Is(err, transport.ErrNotAnnounced) {
		t.Errorf("a service of a homeserver that has nobody there: %v", err)
	}
	if len(service.asked) > 0 {
		t.Fatalf("our token was sent:\n%s", strings.Join(service.asked, "\n"))
	}
	call.enter(bob, service.URL+"/jwt")
	for range 3 {
		if err := ask("/jwt"); err != nil {
			t.Fatalf("a service that its homeserver announces: %v", err)
		}
	}
	if n := bob.asked.Load(); n != 1 || len(service.asked) != 3 {
		t.Errorf("the homeserver was asked %d times, the service %d times", n, len(service.asked))
	}
	bob.server.Close() // what it has announced goes on counting
	if err := ask("/jwt"); err != nil {
		t.Errorf("after the homeserver has gone: %v", err)
	}
}

// TestForeignAddress demands that nothing that others name makes us connect to an address that is not public: neither a homeserver, nor its
// service, nor where one of the two redirects.
func TestForeignAddress(t *testing.T) {
	const answer = `{"url":"wss://sfu.example","jwt":"` + jwt + `"}`
	var inside atomic.Int64 // requests that reached something inside our network
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		inside.Add(1)
		_, _ = fmt.Fprint(w, answer)
	}))
	t.Cleanup(target.Close)
	_, port, _ := strings.Cut(strings.TrimPrefix(target.URL, "http://"), ":")
	service := newIssuer(t)
	service.answers["/jwt"+unstable.TokenPath] = func(w http.ResponseWriter) {
		w.Header().Set("Location", target.URL+"/sfu/get")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}

	t.Run("homeserver", func(t *testing.T) {
		eve := newGuest(t, "eve")
		eve.announced = target.URL
		call := newHall(t, addrpolicy.Public, eve)
		call.enter(eve, target.URL)
		if _, _, err := call.Token(t.Context(), target.URL); err == nil || eve.asked.Load() != 0 {
			t.Errorf("%v, asked %d times", err, eve.asked.Load())
		}
	})
	// The homeservers may be asked here: they are at 127.0.0.1. What they announce is elsewhere on this machine.
	only := func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.1") }
	for _, host := range []string{"127.0.0.2", "localhost", "[::1]", "[::ffff:127.0.0.3]", "0.0.0.0", "[::]"} {
		t.Run(host, func(t *testing.T) {
			eve := newGuest(t, "eve")
			policy := only
			if host == "localhost" {
				policy = func(a netip.Addr) bool { return only(a) && eve.asked.Load() == 0 } // now its name leads inside
			}
			named := "https://" + host + ":" + port
			if host == "127.0.0.2" || host == "[::1]" {
				named = "http://" + host + ":" + port
			}
			eve.announced = named
			call := newHall(t, policy, eve)
			call.enter(eve, named)
			if _, _, err := call.Token(t.Context(), named); !errors.Is(err, addrpolicy.ErrDenied) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("redirect of a service", func(t *testing.T) {
		eve := newGuest(t, "eve")
		eve.announced = service.URL + "/jwt"
		call := newHall(t, anywhere, eve)
		call.enter(eve, service.URL+"/jwt")
		if _, _, err := call.Token(t.Context(), service.URL+"/jwt"); err == nil {
			t.Error("it was followed")
		}
	})
	t.Run("redirect of a homeserver", func(t *testing.T) {
		eve := newGuest(t, "eve")
		inner := httptest.NewUnstartedServer(http.NotFoundHandler())
		inner.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside.Add(1) })
		inner.Listener.Close()
		inner.Listener = listenOn(t, "127.0.0.2:0")
		inner.StartTLS()
		t.Cleanup(inner.Close)
		eve.server.Config.Handler = http.RedirectHandler(inner.URL+"/.well-known/matrix/client", http.StatusFound)
		call := newHall(t, only, eve)
		call.enter(eve, "https://rtc.example")
		if _, _, err := call.Token(t.Context(), "https://rtc.example"); !errors.Is(err, addrpolicy.ErrDenied) {
			t.Errorf("got %v", err)
		}
	})
	if n := inside.Load(); n != 0 {
		t.Errorf("%d requests reached something inside", n)
	}
}

func listenOn(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

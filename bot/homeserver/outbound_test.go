package homeserver_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/homeserver"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

// newOutbound runs a proxy for Dendrite. tunnels are the addresses that it was asked for.
func newOutbound(t *testing.T, allowed func(netip.Addr) bool) (proxy *url.URL, tunnels func() []string) {
	t.Helper()
	o, err := homeserver.ListenOutbound(allowed)
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu    sync.Mutex
		asked []string
	)
	rig.Serve(t, o.Listener(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Host)
		mu.Unlock()
		o.ServeHTTP(w, r)
	}))
	return o.URL(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(asked)
	}
}

// countAll counts connections to a port of every address of this machine.
func countAll(t *testing.T) (port int, connections *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	connections = new(atomic.Int64)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = conn.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port, connections
}

func registered(t *testing.T, hs *rig.Homeserver, name string) id.UserID {
	t.Helper()
	user, _ := hs.Register(t, name)
	return user
}

// TestDendriteConnects demands that no name of a server makes Dendrite connect to an address that is not public: neither for a file, which Dendrite
// asks for in two ways, nor for a room, nor for notifications.
func TestDendriteConnects(t *testing.T) {
	proxy, tunnels := newOutbound(t, addrpolicy.Public)
	hs := rig.StartHomeserverWith(t, rig.Options{Outbound: proxy, AllowNetworks: []string{"0.0.0.0/0", "::/0"}, DenyNetworks: addrpolicy.Denied()})
	user, _ := hs.Register(t, "anna")
	client := hs.Client(t, user)
	port, connections := countAll(t)
	own := proxy.Hostname()
	for _, host := range []string{"127.0.0.1", "127.0.0.2", "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.1]", "localhost", "localhost.", own} {
		server := fmt.Sprintf("%s:%d", host, port)
		for _, path := range []string{"/_matrix/client/v1/media/download/" + server + "/x", "/_matrix/client/v1/media/thumbnail/" + server + "/y?width=32&height=32"} {
			if status, _ := do(t, http.MethodGet, hs.URL+path, client.AccessToken, ""); status == http.StatusOK {
				t.Errorf("a file of %s was found", server)
			}
		}
		_, _ = do(t, http.MethodPost, hs.URL+"/_matrix/client/v3/join/"+url.PathEscape("!x:"+server)+"?server_name="+url.QueryEscape(server), client.AccessToken, "{}")
		if n := connections.Swap(0); n != 0 && host != own {
			t.Errorf("%s: %d connections", server, n)
		}
	}
	// A push gateway, to which a user lets Dendrite send notifications. That of an address for documentation shows when Dendrite does it.
	anna, bob := client, hs.Client(t, registered(t, hs, "bob"))
	const gateway = "192.0.2.8:8449"
	for i, address := range []string{"https://127.0.0.1", "https://localhost", "https://[::1]", "https://127.1.2.3", "https://0.0.0.0", "https://" + gateway} {
		if address != "https://"+gateway {
			address += fmt.Sprintf(":%d", port)
		}
		body := fmt.Sprintf(`{"app_display_name":"a","app_id":"a","data":{"url":%q,"format":"event_id_only"},"device_display_name":"d","kind":"http","lang":"en",`+
			`"pushkey":"key%d","append":true}`, address+"/_matrix/push/v1/notify", i)
		if status, answer := do(t, http.MethodPost, hs.URL+"/_matrix/client/v3/pushers/set", anna.AccessToken, body); status != http.StatusOK {
			t.Fatalf("set a pusher: %d %s", status, answer)
		}
	}
	room, err := bob.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "trusted_private_chat", Invite: []id.UserID{anna.UserID}, IsDirect: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := anna.JoinRoomByID(t.Context(), room.RoomID); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		before := len(tunnels())
		if _, err := bob.SendText(t.Context(), room.RoomID, "hello"); err != nil {
			t.Fatal(err)
		}
		rig.Eventually(t, time.Minute, func() error {
			asked := tunnels()[before:]
			return rig.Check(slices.Contains(asked, gateway), "Dendrite notifies", asked)
		})
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("push gateways of this machine: %d connections", n)
	}
	const documentation = "192.0.2.7:8448"
	if status, _ := do(t, http.MethodGet, hs.URL+"/_matrix/client/v1/media/download/"+documentation+"/x", client.AccessToken, ""); status == http.StatusOK {
		t.Error("a file of an address for documentation was found")
	}
	if !slices.Contains(tunnels(), documentation) {
		t.Errorf("Dendrite connects by itself, and not through the proxy: %q", tunnels())
	}
}

// TestOutbound checks the proxy by itself.
func TestOutbound(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") }))
	t.Cleanup(server.Close)
	get := func(proxy *url.URL, address string) (string, error) {
		transport := server.Client().Transport.(*http.Transport).Clone()
		transport.Proxy = http.ProxyURL(proxy)
		defer transport.CloseIdleConnections()
		answer, err := (&http.Client{Transport: transport}).Get(address)
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return answer.Status + " " + string(text), err
	}
	open, _ := newOutbound(t, addrpolicy.PublicOr([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}))
	if got, err := get(open, server.URL); err != nil || got != "200 OK here" {
		t.Errorf("an address that is allowed: %q, %v", got, err)
	}
	closed, _ := newOutbound(t, addrpolicy.Public)
	for _, address := range []string{server.URL, strings.Replace(server.URL, "127.0.0.1", "localhost", 1), strings.Replace(server.URL, "127.0.0.1", "0.0.0.0", 1)} {
		if got, err := get(closed, address); err == nil || !strings.Contains(err.Error(), "Forbidden") {
			t.Errorf("%s: %q, %v", address, got, err)
		}
	}
	stranger := *open
	stranger.User = url.UserPassword("dendrite", "guessed")
	if got, err := get(&stranger, server.URL); err == nil || !strings.Contains(err.Error(), "Proxy Authentication Required") {
		t.Errorf("without the password: %q, %v", got, err)
	}
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request without encryption was passed on") }))
	t.Cleanup(plain.Close)
	if got, err := get(open, plain.URL); err != nil || !strings.HasPrefix(got, "405") {
		t.Errorf("a request without encryption: %q, %v", got, err)
	}
	address := netip.MustParseAddrPort(open.Host).Addr()
	if other := netip.MustParseAddrPort(closed.Host).Addr(); !address.IsLoopback() || address == other {
		t.Errorf("the proxies listen at %s and %s", address, other)
	}
}

package sfu_test

import (
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

	"github.com/livekit/protocol/livekit"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/callmedia/focus"
	"multifactorymodel.org/ewindow/callmedia/sfu"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

// only is the policy that allows one address.
func only(address string) func(netip.Addr) bool {
	return func(a netip.Addr) bool { return a == netip.MustParseAddr(address) }
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// TestForeignAddress demands that the SFU of somebody else can't make us connect to an address that the policy does not allow: neither to
// itself, nor where it redirects.
func TestForeignAddress(t *testing.T) {
	s := rig.StartLiveKit(t)
	var inside atomic.Int64
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside.Add(1) }))
	t.Cleanup(inner.Close)
	redirect := rig.Serve(t, listen(t, "127.0.0.2:0"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, inner.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	for name, c := range map[string]struct {
		url     string
		allowed func(netip.Addr) bool
	}{
		"signalling": {s.URL, addrpolicy.Public},
		"redirect":   {strings.Replace(redirect, "http", "ws", 1), only("127.0.0.2")},
	} {
		_, err := sfu.Connect(t.Context(), sfu.Options{URL: c.url, Token: s.Token(t, "window", "glass"), Allowed: c.allowed, Log: zerolog.Nop()})
		if !errors.Is(err, addrpolicy.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := inside.Load(); n != 0 {
		t.Errorf("%d requests reached something inside", n)
	}
	if list := s.Participants(t, "glass"); len(list) > 0 {
		t.Errorf("%d participants came", len(list))
	}
}

// TestForeignICE does the same for the ICE servers that it announces, and for its own candidates.
func TestForeignICE(t *testing.T) {
	var reached atomic.Int64 // packets and connections
	count := func(address string) (port int) {
		stream := listen(t, address+":0")
		port = stream.Addr().(*net.TCPAddr).Port
		packets, err := net.ListenPacket("udp", fmt.Sprintf("%s:%d", address, port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = packets.Close() })
		go func() {
			for {
				conn, err := stream.Accept()
				if err != nil {
					return
				}
				reached.Add(1)
				_ = conn.Close()
			}
		}()
		go func() {
			for {
				if _, _, err := packets.ReadFrom(make([]byte, 1500)); err != nil {
					return
				}
				reached.Add(1)
			}
		}()
		return port
	}
	var turn []rig.Turn
	for i, protocol := range []string{"udp", "tcp", "tls"} {
		address := fmt.Sprintf("127.0.0.%d", 5+i)
		turn = append(turn, rig.Turn{Host: address, Port: count(address), Protocol: protocol, Secret: "secret"})
	}
	s := rig.StartLiveKitWith(t, rig.LiveKitOptions{Turn: turn})
	var log rig.Output
	join(t, s, "window", func(o *sfu.Options) { o.Allowed, o.Log = only("127.0.0.1"), zerolog.New(&log) })
	for _, server := range turn[1:] { // pion does not log the one over UDP
		log.Await(t, patience, fmt.Sprintf("%s:%d: %v", server.Host, server.Port, addrpolicy.ErrDenied))
	}
	rig.Eventually(t, patience, func() error { return rig.Check(active(t, s, "window"), "the media do not connect", log.String()) })
	if n := reached.Load(); n != 0 {
		t.Errorf("ICE servers inside got %d packets and connections", n)
	}

	// Now signalling is allowed, at 127.0.0.2, and media at 127.0.0.1 is not.
	proxy, err := focus.NewProxy(focus.ProxyConfig{LiveKitURL: s.HTTPURL, Key: s.Key, Secret: s.Secret, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	address := rig.Serve(t, listen(t, "127.0.0.2:0"), proxy)
	join(t, s, "guest", func(o *sfu.Options) {
		o.URL, o.Allowed, o.Log = strings.Replace(address, "http", "ws", 1), only("127.0.0.2"), zerolog.New(&log)
	})
	log.Await(t, patience, "filtered by remote IP policy")
	if active(t, s, "guest") {
		t.Error("the media connect")
	}
}

// active says whether the media of a participant are connected.
func active(t *testing.T, s *rig.LiveKit, identity string) bool {
	t.Helper()
	return slices.ContainsFunc(s.Participants(t, "glass"), func(p *livekit.ParticipantInfo) bool {
		return p.Identity == identity && p.State == livekit.ParticipantInfo_ACTIVE
	})
}

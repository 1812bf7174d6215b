package callmedia_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/callmedia"
	"multifactorymodel.org/ewindow/callmedia/sfu"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/cmd/e2e/synthetic"
)

// party is one side of a call on a real SFU, with a test card for a camera.
type party struct {
	*callmedia.Session
	local    *synthetic.Page
	identity string

	mu     sync.Mutex
	events []callmedia.SessionEvent
}

const service = "http://sfu.example/jwt"

var keyA, keyB = []byte("0123456789abcdef"), []byte("fedcba9876543210")

func newParty(t *testing.T, sfu *rig.LiveKit, identity string) *party {
	t.Helper()
	local, err := synthetic.New()
	if err != nil {
		t.Fatal(err)
	}
	p := &party{local: local, identity: identity}
	token, elsewhere := sfu.Token(t, identity, "room"), sfu.Token(t, "elsewhere "+identity[:1], "room")
	p.Session, err = callmedia.NewSession(callmedia.SessionConfig{
		Local: local, Service: service, PictureLimit: 5 * time.Second, Counters: new(callmedia.Counters), AllowLoopback: true,
		Allowed: netip.Addr.IsLoopback, Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel),
		Token: func(_ context.Context, at string) (string, string, error) {
			if at != service {
				return sfu.URL, elsewhere, nil // another way to the same SFU, with another name
			}
			return sfu.URL, token, nil
		},
		OnEvent: func(e callmedia.SessionEvent) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.events = append(p.events, e)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	playing := make(chan struct{})
	go func() {
		defer close(playing)
		local.Run(ctx)
	}()
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close %s: %v", identity, err)
		}
		cancel()
		<-playing
	})
	if err := p.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	p.SetCamera(true)
	return p
}

// count returns how many events of a kind there were, only those of an identity if one is given.
func (p *party) count(kind callmedia.EventKind, identity string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if e.Kind == kind && (identity == "" || e.Identity == identity) {
			n++
		}
	}
	return n
}

func (p *party) await(t *testing.T, kind callmedia.EventKind, identity string, n int) {
	t.Helper()
	rig.Eventually(t, 20*time.Second, func() error {
		if got := p.count(kind, identity); got < n {
			return fmt.Errorf("%s has %d events %d of %q, want %d; %+v", p.identity, got, kind, identity, n, p.Stats())
		}
		return nil
	})
}

// introduce gives each of two sessions the other as a remote, and the right keys.
func introduce(a, b *party) {
	a.SetRemotes([]callmedia.Remote{{Identity: b.identity, Service: service}})
	b.SetRemotes([]callmedia.Remote{{Identity: a.identity, Service: service}})
	a.UseKey(0, keyA)
	b.UseKey(0, keyB)
	a.SetKey(b.identity, 0, keyB)
	b.SetKey(a.identity, 0, keyA)
}

// intact waits for pictures and sound, and checks that they came unchanged.
func intact(t *testing.T, p *party, frames uint64) {
	t.Helper()
	rig.Eventually(t, 20*time.Second, func() error {
		if audio, video, _ := p.local.Shown(0); audio < frames || video < frames {
			return fmt.Errorf("%s was shown %d sounds and %d pictures, want %d; %+v", p.identity, audio, video, frames, p.Stats())
		}
		return nil
	})
	if _, _, broken := p.local.Shown(0); broken > 0 {
		t.Errorf("%s was shown %d broken pictures", p.identity, broken)
	}
}

// TestSession connects two through a real SFU. They see each other. A third without keys sees nothing.
func TestSession(t *testing.T) {
	sfu := rig.StartLiveKit(t)
	a, b, eve := newParty(t, sfu, "a"), newParty(t, sfu, "b"), newParty(t, sfu, "eve")
	eve.SetRemotes([]callmedia.Remote{{Identity: "a", Service: service}, {Identity: "b", Service: service}})
	eve.SetKey("a", 0, keyB) // a wrong one
	introduce(a, b)
	for _, p := range []*party{a, b} {
		p.await(t, callmedia.Connected, "", 1)
	}
	// The gate is shut: both are in the room, and no frame comes.
	a.await(t, callmedia.RemoteUp, "b", 1)
	if n := a.Stats().FramesSent; n != 0 {
		t.Errorf("%d frames left while the gate was shut", n)
	}
	a.SetSending(true)
	b.SetSending(true)
	a.await(t, callmedia.PictureOn, "b", 1)
	b.await(t, callmedia.PictureOn, "a", 1)
	intact(t, a, 60)
	intact(t, b, 60)

	rig.Eventually(t, 10*time.Second, func() error {
		if s := eve.Stats(); s.Undecryptable == 0 || s.NoKey == 0 {
			return fmt.Errorf("without the right keys, counted %+v", s)
		}
		return nil
	})
	if s := eve.Stats(); s.FramesReceived != 0 {
		t.Errorf("without keys %d frames were read", s.FramesReceived)
	}
	for tile := range 2 {
		if audio, video, _ := eve.local.Shown(tile); audio+video > 0 {
			t.Errorf("without keys %d sounds and %d pictures were shown", audio, video)
		}
	}
	if s := a.Stats(); s.Unencrypted != 0 || s.KeysRefused != 0 || s.Malformed != 0 {
		t.Errorf("a counts %+v", s)
	}

	// The gate is shut again: after five seconds the picture counts as stopped. The SFU is told nothing.
	b.SetSending(false)
	sent := b.Stats().FramesSent
	a.await(t, callmedia.PictureOff, "b", 1)
	if n := b.Stats().FramesSent; n > sent+2 {
		t.Errorf("%d frames left after the gate was shut", n-sent)
	}
	if n := a.count(callmedia.RemoteMuted, "b"); n != 0 {
		t.Errorf("the gate muted %d times", n)
	}
	b.SetSending(true)
	a.await(t, callmedia.PictureOn, "b", 2)

	// The camera is switched off: the other side is told.
	b.SetCamera(false)
	a.await(t, callmedia.RemoteMuted, "b", 1)
	b.SetCamera(true)
	a.await(t, callmedia.RemoteMuted, "b", 2)

	// The sound alone goes out: the microphone is on for the others, the camera is not.
	b.SetSending(false)
	b.SetCamera(false)
	a.await(t, callmedia.RemoteMuted, "b", 3)
	b.SetSound(true)
	held := b.Stats()
	rig.Eventually(t, 10*time.Second, func() error {
		now := b.Stats()
		return rig.Check(now.FramesSent > held.FramesSent+50 && now.Gated > held.Gated+10, "sound without a picture", now)
	})
	b.SetSound(false)
	b.SetCamera(true)
	b.SetSending(true)
	a.await(t, callmedia.RemoteMuted, "b", 4)

	// A new key is used from the next frame on. The other side waits for a key that comes late.
	newKey := []byte("another key, 16b")
	a.UseKey(1, newKey)
	rig.Eventually(t, 10*time.Second, func() error {
		if s := b.Stats(); s.NoKey == 0 {
			return fmt.Errorf("no frame with an unknown key came; %+v", s)
		}
		return nil
	})
	_, before, _ := b.local.Shown(0)
	b.SetKey("a", 1, newKey)
	rig.Eventually(t, 10*time.Second, func() error {
		if _, now, _ := b.local.Shown(0); now <= before+20 {
			return fmt.Errorf("%d pictures with the new key were shown", now-before)
		}
		return nil
	})
	intact(t, b, 1)

	// A participant that is no member is not shown, whatever it sends.
	b.SetRemotes(nil)
	b.await(t, callmedia.RemoteGone, "a", 1)
	_, before, _ = b.local.Shown(0)
	unwanted := b.Stats().Unwanted
	rig.Eventually(t, 10*time.Second, func() error {
		if n := b.Stats().Unwanted; n <= unwanted+30 {
			return fmt.Errorf("%d frames of a stranger came", n-unwanted)
		}
		return nil
	})
	if _, now, _ := b.local.Shown(0); now > before+1 {
		t.Errorf("%d pictures of a stranger were shown", now-before)
	}
}

// TestSessionReconnects kills the SFU and starts it again. Both sessions emit that it is lost, and see each other again.
func TestSessionReconnects(t *testing.T) {
	sfu := rig.StartLiveKit(t)
	a, b := newParty(t, sfu, "a"), newParty(t, sfu, "b")
	introduce(a, b)
	a.SetSending(true)
	b.SetSending(true)
	a.await(t, callmedia.PictureOn, "b", 1)
	b.await(t, callmedia.PictureOn, "a", 1)
	sfu.Kill(t)
	a.await(t, callmedia.Lost, "", 1)
	a.await(t, callmedia.RemoteGone, "b", 1)
	sfu.Restart(t)
	begin := time.Now()
	a.await(t, callmedia.PictureOn, "b", 2)
	b.await(t, callmedia.PictureOn, "a", 2)
	t.Logf("both pictures are back %v after the SFU", time.Since(begin).Round(time.Millisecond))
	intact(t, a, 60)
}

// TestSessionAway emits that a participant is not in the SFU's room, while that is known.
func TestSessionAway(t *testing.T) {
	sfu := rig.StartLiveKit(t)
	a := newParty(t, sfu, "a")
	a.SetRemotes([]callmedia.Remote{{Identity: "b", Service: service}})
	a.await(t, callmedia.RemoteAway, "b", 1)
	b := newParty(t, sfu, "b")
	a.await(t, callmedia.RemoteBack, "b", 1)
	a.await(t, callmedia.RemoteUp, "b", 1)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	a.await(t, callmedia.RemoteAway, "b", 2)
	sfu.Kill(t)
	a.await(t, callmedia.RemoteBack, "b", 2) // nobody knows
	sfu.Restart(t)
	a.await(t, callmedia.RemoteAway, "b", 3)
	a.SetRemotes(nil)
	a.SetRemotes([]callmedia.Remote{{Identity: "b", Service: service}})
	a.await(t, callmedia.RemoteAway, "b", 4)
	if n := a.count(callmedia.RemoteBack, "b"); n != 2 {
		t.Errorf("said to be back %d times, want 2", n)
	}
}

// TestSessionArrivals emits who is in the SFU's room, also those who are not to be shown, whatever their names. Our own second connection to the
// same room is nobody else.
func TestSessionArrivals(t *testing.T) {
	server := rig.StartLiveKit(t)
	a := newParty(t, server, "a")
	a.await(t, callmedia.Connected, "", 1)
	eve := newParty(t, server, "eve")
	a.await(t, callmedia.Arrived, "eve", 1)
	// Somebody who only listens is there as well.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	listener, err := sfu.Connect(ctx, sfu.Options{URL: server.URL, Token: server.Token(t, "listener", "room"), AllowLoopback: true, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	a.await(t, callmedia.Arrived, "listener", 1)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	a.await(t, callmedia.Departed, "listener", 1)
	long := strings.Repeat("x", 512) // LiveKit allows no longer names
	newParty(t, server, long)
	a.await(t, callmedia.Arrived, long, 1)
	if err := eve.Close(); err != nil {
		t.Fatal(err)
	}
	a.await(t, callmedia.Departed, "eve", 1)
	a.SetRemotes([]callmedia.Remote{{Identity: "b", Service: service + "/other"}})
	newParty(t, server, "b")
	a.await(t, callmedia.Arrived, "b", 1)
	a.await(t, callmedia.RemoteUp, "b", 1) // through the second connection
	newParty(t, server, "c")
	a.await(t, callmedia.Arrived, "c", 1) // so what happened before has been said
	for _, own := range []string{"a", "elsewhere a"} {
		if in, out := a.count(callmedia.Arrived, own), a.count(callmedia.Departed, own); in != out {
			t.Errorf("our own name %s arrived %d times and departed %d times", own, in, out)
		}
	}
	server.Kill(t)
	a.await(t, callmedia.Departed, "b", 1) // nobody knows
	a.await(t, callmedia.Departed, long, 1)
}

// TestSmall encodes the small picture while a guest is there, and not the large one while nobody shows it large.
func TestSmall(t *testing.T) {
	server := rig.StartLiveKit(t)
	window := newParty(t, server, "window")
	window.UseKey(0, keyA)
	window.SetSending(true)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	phone, err := sfu.Connect(ctx, sfu.Options{URL: server.URL, Token: server.Token(t, "phone", "room"), AllowLoopback: true, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	var track atomic.Pointer[string]
	ended := make(chan struct{})
	t.Cleanup(func() { _ = phone.Close(); <-ended })
	go func() {
		defer close(ended)
		for e := range phone.Events() {
			if e, ok := e.(sfu.TrackSubscribed); ok && e.Source == livekit.TrackSource_CAMERA {
				track.Store(&e.TrackSID)
			}
		}
	}()
	rig.Eventually(t, 20*time.Second, func() error {
		if track.Load() == nil {
			return fmt.Errorf("the window's track is not there; %+v", window.Stats())
		}
		return nil
	})
	limits := func(what string, ok func(video, small int) bool) {
		t.Helper()
		rig.Eventually(t, 20*time.Second, func() error {
			if video, small := window.local.Bitrate(); !ok(video, small) {
				return fmt.Errorf("%d and %d bit/s, want %s", video, small, what)
			}
			return nil
		})
	}
	limits("only the large picture", func(video, small int) bool { return video > 0 && small == 0 })
	window.SetRemotes([]callmedia.Remote{{Identity: "phone", Service: service, Guest: true}})
	limits("both pictures", func(video, small int) bool { return video > 0 && small > 0 })
	phone.SetTrackSize(*track.Load(), 160, 90)
	limits("only the small picture", func(video, small int) bool { return video == 0 && small > 0 })
	phone.SetTrackSize(*track.Load(), 1280, 720)
	limits("both pictures again", func(video, small int) bool { return video > 0 && small > 0 })
	window.SetRemotes(nil)
	limits("only the large picture again", func(video, small int) bool { return video > 0 && small == 0 })
}

// TestForeignSFU demands that a session connects to the SFU of others only at addresses that the policy allows, while its own SFU may be anywhere.
func TestForeignSFU(t *testing.T) {
	own, foreign := rig.StartLiveKit(t), rig.StartLiveKit(t)
	local, err := synthetic.New()
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	s, err := callmedia.NewSession(callmedia.SessionConfig{
		Local: local, Service: service, PictureLimit: 5 * time.Second, Counters: new(callmedia.Counters), AllowLoopback: true, Log: zerolog.Nop(),
		OnEvent: func(callmedia.SessionEvent) {},
		Token: func(_ context.Context, of string) (string, string, error) {
			if of == service {
				return own.URL, own.Token(t, "window", "room"), nil
			}
			asked.Add(1)
			return foreign.URL, foreign.Token(t, "window", "room"), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	s.SetRemotes([]callmedia.Remote{{Identity: "x", Service: "http://elsewhere.example"}})
	rig.Eventually(t, 20*time.Second, func() error {
		return rig.Check(asked.Load() > 1 && len(own.Participants(t, "room")) == 1, "not tried again, or not at its own SFU", asked.Load())
	})
	if list := foreign.Participants(t, "room"); len(list) > 0 {
		t.Errorf("the session connected to an address that is not public")
	}
}

// TestSessionLate closes a session whose token never came.
func TestSessionLate(t *testing.T) {
	local, err := synthetic.New()
	if err != nil {
		t.Fatal(err)
	}
	s, err := callmedia.NewSession(callmedia.SessionConfig{
		Local: local, Service: service, PictureLimit: 5 * time.Second, Counters: new(callmedia.Counters), Log: zerolog.Nop(), OnEvent: func(callmedia.SessionEvent) {},
		Token: func(ctx context.Context, _ string) (string, string, error) {
			<-ctx.Done()
			return "", "", ctx.Err()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.SetKey("x", 0, keyA)
	s.SetKey("x", 0, []byte("short"))
	s.SetRemotes([]callmedia.Remote{{Identity: "x", Service: "elsewhere"}, {Identity: "x", Service: service}})
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	s.SetKey("x", 0, keyA) // after the end nothing happens
}

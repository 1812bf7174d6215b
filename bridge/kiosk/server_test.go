package kiosk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/rs/zerolog"
	"go.mau.fi/util/jsontime"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// served is a running server whose messages are recorded.
type served struct {
	*kiosk.Server
	folder   string
	mu       sync.Mutex
	messages []kiosk.Message
}

func newServed(t testing.TB, on func(w *served, m kiosk.Message)) *served {
	t.Helper()
	w := &served{folder: t.TempDir()}
	s, err := kiosk.New(kiosk.Config{Listen: "127.0.0.1:0", DataDir: w.folder, Log: zerolog.Nop(), HandleMessage: func(m kiosk.Message) {
		w.mu.Lock()
		w.messages = append(w.messages, m)
		w.mu.Unlock()
		if on != nil {
			on(w, m)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.Server = s
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *served) url() string { return "http://" + w.Addr().String() }

// key returns the page's key.
func (w *served) key(t testing.TB) string {
	t.Helper()
	key, err := kiosk.ReadKey(w.folder)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// address is the page's address for a browser.
func (w *served) address(t testing.TB) string { return kiosk.Address(w.Addr().String(), w.key(t)) }

func (w *served) got() []kiosk.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]kiosk.Message(nil), w.messages...)
}

// last returns the latest message of one type.
func last[M kiosk.Message](w *served) (m M, ok bool) {
	for _, any := range w.got() {
		if found, is := any.(M); is {
			m, ok = found, true
		}
	}
	return m, ok
}

func (w *served) expect(t testing.TB, want ...kiosk.Message) {
	t.Helper()
	rig.Eventually(t, 5*time.Second, func() error {
		got := w.got()
		return rig.Check(reflect.DeepEqual(got, want), fmt.Sprintf("the messages %+v", want), got)
	})
}

// client is a page, or something that pretends to be one.
type client struct {
	t    testing.TB
	conn *websocket.Conn
}

func dial(t testing.TB, w *served, hello string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://"+w.Addr().String()+"/ws", &websocket.DialOptions{
		HTTPHeader: http.Header{"Origin": {w.url()}, "Sec-Fetch-Site": {"same-origin"}}, Subprotocols: kiosk.Subprotocols(w.key(t)),
	})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = conn.CloseNow() })
	c := &client{t, conn}
	if hello != "" {
		c.send(hello)
	}
	return c
}

const helloPage = `{"type":"hello","version":2,"role":"page","shutter":"open"}`

func (c *client) send(text string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	if err := c.conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// read returns the next message, or the code with which the connection was closed.
func (c *client) read() (map[string]any, websocket.StatusCode) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	_, data, err := c.conn.Read(ctx)
	if err != nil {
		if code := websocket.CloseStatus(err); code != -1 {
			return nil, code
		}
		c.t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		c.t.Fatal(err)
	}
	return m, 0
}

// expect reads until a message of this type comes.
func (c *client) expect(kind string) map[string]any {
	c.t.Helper()
	for range 100 {
		m, code := c.read()
		if code != 0 {
			c.t.Fatalf("closed with %d before a %s", code, kind)
		}
		if m["type"] == kind {
			return m
		}
	}
	c.t.Fatalf("100 messages and no %s", kind)
	return nil
}

// closed reads until the connection is closed, and returns the code.
func (c *client) closed() websocket.StatusCode {
	c.t.Helper()
	for {
		if _, code := c.read(); code != 0 {
			return code
		}
	}
}

// TestPage acts as one page from its hello to its end.
func TestPage(t *testing.T) {
	w := newServed(t, nil)
	w.SetState(kiosk.State{Screen: "shut", Shutter: "shut", Name: "Werk"})
	page := dial(t, w, helloPage)
	if s := page.expect("state"); s["name"] != "Werk" || s["screen"] != "shut" || s["page"] == "" || s["version"] != 2.0 {
		t.Errorf("the state is %v", s)
	}
	w.expect(t, kiosk.PageUp{ID: 1, Shutter: "open"})
	w.SendOffer(1, "v=0 offer")
	if m := page.expect("offer"); m["sdp"] != "v=0 offer" || m["id"] != 1.0 {
		t.Errorf("the offer is %v", m)
	}
	w.SendOffer(2, "for nobody")
	w.SendBitrate(500_000, 150_000)
	if m := page.expect("bitrate"); m["bps"] != 500_000.0 || m["small"] != 150_000.0 {
		t.Errorf("the limit is %v", m)
	}
	page.send(`{"type":"answer","id":1,"sdp":"v=0 answer"}`)
	page.send(`{"type":"answer","id":7,"sdp":"to nothing"}`)
	page.send(`{"type":"shutter","to":"open","room":"!a:b"}`)
	page.send(`{"type":"camera","state":"fault","code":"busy"}`)
	page.send(`{"type":"picture","tile":2,"playing":true,"frames":9}`)
	want := []kiosk.Message{
		kiosk.PageUp{ID: 1, Shutter: "open"}, kiosk.Answer{ID: 1, SDP: "v=0 answer"}, kiosk.Shutter{To: "open", Room: "!a:b"},
		kiosk.Camera{State: "fault", Code: "busy"}, kiosk.Picture{Tile: 2, Playing: true, Frames: 9},
	}
	w.expect(t, want...)
	// The same state again is not sent, a changed one is.
	w.SetState(kiosk.State{Screen: "shut", Shutter: "shut", Name: "Werk"})
	w.SetState(kiosk.State{Screen: "opening", Shutter: "open", Name: "Werk", CountUntil: time.Now().Add(time.Minute)})
	m, _ := page.read()
	if left, _ := m["count_ms"].(float64); m["screen"] != "opening" || left < 50_000 || left > 60_000 {
		t.Errorf("the next state is %v", m)
	}
	_ = page.conn.Close(websocket.StatusNormalClosure, "")
	w.expect(t, append(want, kiosk.PageDown{ID: 1})...)
	// A page that comes later gets the limit.
	if m := dial(t, w, helloPage).expect("bitrate"); m["bps"] != 500_000.0 || m["small"] != 150_000.0 {
		t.Errorf("the limit is %v", m)
	}
	if c := w.Counters(); c.Pages != 2 || c.Malformed != 0 || c.Refused != 0 {
		t.Errorf("%+v", c)
	}
}

// TestReplaced lets a newer page take over. Messages of the older one are ignored.
func TestReplaced(t *testing.T) {
	w := newServed(t, nil)
	first := dial(t, w, helloPage)
	first.expect("state")
	second := dial(t, w, `{"type":"hello","version":2,"role":"page"}`)
	second.expect("state")
	first.expect("replaced")
	if code := first.closed(); code != 4000 {
		t.Errorf("the older page is closed with %d", code)
	}
	second.send(`{"type":"camera","state":"on"}`)
	w.expect(t, kiosk.PageUp{ID: 1, Shutter: "open"}, kiosk.PageDown{ID: 1}, kiosk.PageUp{ID: 2, Shutter: "shut"}, kiosk.Camera{State: "on"})
}

// TestObserver reads the state and presses the button with our own client.
func TestObserver(t *testing.T) {
	w := newServed(t, func(w *served, m kiosk.Message) {
		if m, ok := m.(kiosk.Shutter); ok { // SetState may be called from inside the handler
			s := kiosk.State{Screen: "shut", Shutter: "shut", Name: "Werk"}
			if m.To == "open" {
				s.Screen, s.Shutter = "alone", "open"
			}
			w.SetState(s)
		}
	})
	now := time.UnixMilli(time.Now().UnixMilli())
	want := kiosk.State{
		Screen: "visit", Shutter: "open", Name: "Werk", Since: jsontime.UM(now), Peer: &kiosk.Person{Name: "Rosenwerk", Tile: 2},
		Guests:  []kiosk.Person{{Name: "Anna", Tile: 1}},
		Windows: []directory.Window{{Room: "!a:b", Name: "Rosenwerk", Shutter: "ajar", Since: jsontime.UM(now), Joined: true}}, Languages: []string{"it"},
		Fault: &kiosk.Fault{Code: "hub", Since: jsontime.UM(now), Detail: "d"},
	}
	w.SetState(want)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	o, err := kiosk.Dial(ctx, w.Addr().String(), w.key(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(o.Close(), o.Close()); err != nil {
			t.Error(err)
		}
	}()
	if s, err := o.Next(ctx); err != nil || !s.Equal(want) {
		t.Fatalf("the state is %+v, %v", s, err)
	}
	// The end of a context ends the call, not the connection.
	short, stop := context.WithCancel(ctx)
	stop()
	if _, err := o.Next(short); !errors.Is(err, context.Canceled) {
		t.Errorf("next: %v", err)
	}
	for _, open := range []bool{true, false} {
		if err := o.Press(open); err != nil {
			t.Fatal(err)
		}
		if s, err := o.Next(ctx); err != nil || (s.Shutter == "open") != open {
			t.Fatalf("after a press (%v) the state is %+v, %v", open, s, err)
		}
	}
	w.expect(t, kiosk.Shutter{To: "open"}, kiosk.Shutter{To: "shut"}) // an observer is not counted as a page
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Next(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("next without a server: %v", err)
	}
	if _, err := kiosk.Dial(ctx, w.Addr().String(), w.key(t)); err == nil {
		t.Error("a server that has ended can be reached")
	}
}

// TestObserverSlow reads no state for a while: the newest states are kept.
func TestObserverSlow(t *testing.T) {
	w := newServed(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	o, err := kiosk.Dial(ctx, w.Addr().String(), w.key(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = o.Close() }()
	witness := dial(t, w, `{"type":"hello","version":2,"role":"observer"}`)
	witness.expect("state")
	for i := range 200 {
		w.SetState(kiosk.State{Screen: "alone", Name: fmt.Sprint(i)})
		if m := witness.expect("state"); m["name"] != fmt.Sprint(i) {
			t.Fatalf("state %d is %v", i, m["name"])
		}
	}
	previous := -1
	for previous != 199 {
		s, err := o.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n := -1
		_, _ = fmt.Sscan(s.Name, &n)
		if n < previous {
			t.Fatalf("state %d comes after %d", n, previous)
		}
		previous = n
	}
}

// TestMalformed sends messages that no page sends.
func TestMalformed(t *testing.T) {
	w := newServed(t, nil)
	for i, c := range []struct {
		hello, then string
		code        websocket.StatusCode
	}{
		{`{`, "", websocket.StatusPolicyViolation},
		{`{"type":"shutter","to":"open"}`, "", websocket.StatusPolicyViolation},
		{`{"type":"hello","version":2,"role":"admin"}`, "", websocket.StatusPolicyViolation},
		{`{"type":"hello","version":99,"role":"page"}`, "", 4001},
		{helloPage, `{"type":"nothing"}`, websocket.StatusPolicyViolation},
		{helloPage, helloPage, websocket.StatusPolicyViolation},
		{helloPage, `{"type":"picture","tile":99}`, websocket.StatusPolicyViolation},
		{helloPage, `{"type":"answer","sdp":"` + strings.Repeat("v", 70<<10) + `"}`, websocket.StatusMessageTooBig},
		{`{"type":"hello","version":2,"role":"observer"}`, `{"type":"camera","state":"on"}`, websocket.StatusPolicyViolation},
	} {
		page := dial(t, w, c.hello)
		if c.then != "" {
			page.expect("state")
			page.send(c.then)
		}
		if code := page.closed(); code != c.code {
			t.Errorf("%.60s, %.60s: closed with %d", c.hello, c.then, code)
		}
		rig.Eventually(t, 5*time.Second, func() error {
			n := w.Counters().Malformed
			return rig.Check(n == uint64(i+1), "the count", n)
		})
	}
	for _, m := range w.got() {
		switch m.(type) {
		case kiosk.PageUp, kiosk.PageDown:
		default:
			t.Errorf("%#v came through", m)
		}
	}
	page := dial(t, w, helloPage)
	page.expect("state")
	if err := page.conn.Write(t.Context(), websocket.MessageBinary, []byte(`{"type":"camera","state":"on"}`)); err != nil {
		t.Fatal(err)
	}
	if code := page.closed(); code != websocket.StatusPolicyViolation {
		t.Errorf("a binary message: closed with %d", code)
	}
	flood := dial(t, w, helloPage)
	for range 300 {
		if flood.conn.Write(t.Context(), websocket.MessageText, []byte(`{"type":"camera","state":"on"}`)) != nil {
			break // the connection was closed meanwhile
		}
	}
	rig.Eventually(t, 5*time.Second, func() error {
		m, ok := last[kiosk.PageDown](w)
		return rig.Check(ok && m.ID >= 6, "the flood's end", w.Counters())
	})
}

// TestSlow has a client that does not read: it is cut off, and the others go on.
func TestSlow(t *testing.T) {
	w := newServed(t, nil)
	dial(t, w, helloPage).expect("state") // and then nothing is read any more
	big := kiosk.State{Screen: "alone", Name: strings.Repeat("n", 32<<10)}
	i := 0
	rig.Eventually(t, 30*time.Second, func() error {
		for range 50 {
			i++
			big.Timezone = fmt.Sprint(i)
			w.SetState(big)
		}
		_, down := last[kiosk.PageDown](w)
		return rig.Check(down, "the slow page's end", w.Counters())
	})
	if n := w.Counters().Slow; n == 0 {
		t.Error("the slow page is not counted")
	}
	w.SetState(kiosk.State{Screen: "alone", Name: "again"})
	if m := dial(t, w, helloPage).expect("state"); m["name"] != "again" {
		t.Errorf("the next page gets %.20v", m["name"])
	}
}

// TestForeign acts as a foreign web site: DNS rebinding, and WebSockets and requests from another site.
func TestForeign(t *testing.T) {
	w := newServed(t, nil)
	get := func(path, host string, header http.Header) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		r.Header = header
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response
	}
	own := w.Addr().String()
	for _, c := range []struct {
		host   string
		header http.Header
	}{
		{"rebound.example", http.Header{}},
		{"rebound.example:8470", http.Header{}},
		{own, http.Header{"Origin": {"https://evil.example"}}},
		{own, http.Header{"Origin": {"http://127.0.0.1:1"}}},
		{own, http.Header{"Sec-Fetch-Site": {"cross-site"}}},
		{own, http.Header{"Sec-Fetch-Site": {"same-site"}}},
	} {
		for _, path := range []string{"/", "/app.js", "/ws", "/none"} {
			if r := get(path, c.host, c.header); r.StatusCode != http.StatusForbidden {
				t.Errorf("%s for %+v: %s", path, c, r.Status)
			}
		}
		_, _, err := websocket.Dial(t.Context(), "ws://"+own+"/ws", &websocket.DialOptions{
			Host: c.host, HTTPHeader: c.header, Subprotocols: kiosk.Subprotocols(w.key(t)),
		})
		if err == nil {
			t.Errorf("a socket for %+v is let in", c)
		}
	}
	if n := w.Counters().Refused; n != 6*5 {
		t.Errorf("%d refused", n)
	}
	if r := get("/", own, http.Header{"Sec-Fetch-Site": {"none"}}); r.StatusCode != http.StatusOK {
		t.Errorf("a typed address: %s", r.Status)
	}
	if r := get("/", "localhost:1234", http.Header{}); r.StatusCode != http.StatusOK {
		t.Errorf("through a tunnel: %s", r.Status)
	}
	// A WebSocket that has sent no hello does not hold up the end.
	silent := dial(t, w, "")
	polite := dial(t, w, `{"type":"hello","version":2,"role":"observer"}`)
	polite.expect("state")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if code := polite.closed(); code != websocket.StatusGoingAway {
		t.Errorf("the end is told by %d", code)
	}
	if _, _, err := silent.conn.Read(t.Context()); err == nil {
		t.Error("something is left after the end")
	}
	if got := w.got(); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// TestCrowd opens more WebSockets than are accepted.
func TestCrowd(t *testing.T) {
	w := newServed(t, nil)
	for range 24 {
		dial(t, w, `{"type":"hello","version":2,"role":"observer"}`).expect("state")
	}
	_, response, err := websocket.Dial(t.Context(), "ws://"+w.Addr().String()+"/ws", &websocket.DialOptions{Subprotocols: kiosk.Subprotocols(w.key(t))})
	if err == nil || response == nil || response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one more: %v", err)
	}
}

// TestStartStop starts a server twice, on a port in use, and with a context that ends.
func TestStartStop(t *testing.T) {
	handle := func(kiosk.Message) {}
	folder := t.TempDir()
	if _, err := kiosk.New(kiosk.Config{Listen: "127.0.0.1:0", DataDir: folder}); err == nil {
		t.Error("messages to nobody")
	}
	if _, err := kiosk.New(kiosk.Config{Listen: "127.0.0.1:0", HandleMessage: handle}); err == nil {
		t.Error("a key without a folder")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := kiosk.New(kiosk.Config{Listen: l.Addr().String(), DataDir: folder, HandleMessage: handle, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err == nil || !strings.HasPrefix(err.Error(),
		"kiosk.listen: another program, perhaps another ewindow, already listens on "+l.Addr().String()) {
		t.Errorf("a port in use: %v", err)
	}
	if s.Addr() != nil {
		t.Error("it has an address")
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if err := s.Start(t.Context()); err == nil {
		t.Error("it starts after its end")
	}
	ctx, cancel := context.WithCancel(t.Context())
	s, err = kiosk.New(kiosk.Config{Listen: "localhost:0", DataDir: folder, HandleMessage: handle, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	s.SetState(kiosk.State{Screen: "alone", Name: "before"})
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(ctx); err == nil {
		t.Error("it starts twice")
	}
	key, err := kiosk.ReadKey(folder)
	if err != nil {
		t.Fatal(err)
	}
	o, err := kiosk.Dial(ctx, s.Addr().String(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = o.Close() }()
	rig.Eventually(t, 5*time.Second, func() error {
		state, err := o.Next(ctx)
		return rig.Check(state.Name == "before", "the state from before the start", err)
	})
	cancel()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s.SetState(kiosk.State{})
	s.SendOffer(1, "")
	s.SendBitrate(1, 1)
}

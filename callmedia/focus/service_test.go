package focus_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
	"github.com/pion/rtp"
	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/e2ee"
	"multifactorymodel.org/ewindow/callmedia/focus"
	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/sfu"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

func loopbackOnly(a netip.Addr) bool { return a.IsLoopback() }

func roots(t testing.TB) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(rig.CAFile(t))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool
}

// newService makes a service in front of a LiveKit server. Its log goes to log, so that a test can look for secrets in it.
func newService(t testing.TB, l *rig.LiveKit, log io.Writer, full ...string) *focus.Service {
	t.Helper()
	return newServiceAt(t, l, l.URL, log, full...)
}

// newServiceAt also says where clients reach the signalling.
func newServiceAt(t testing.TB, l *rig.LiveKit, signalling string, log io.Writer, full ...string) *focus.Service {
	t.Helper()
	s, err := focus.NewService(focus.ServiceConfig{
		LiveKitURL: l.HTTPURL, PublicURL: signalling, Key: l.Key, Secret: l.Secret, FullAccess: full, Allowed: loopbackOnly, Log: zerolog.New(log),
	})
	if err != nil {
		t.Fatal(err)
	}
	focus.TrustOnly(s, roots(t))
	return s
}

// newProxy starts a proxy before a LiveKit server, and returns its address for clients.
func newProxy(t testing.TB, l *rig.LiveKit) string {
	t.Helper()
	proxy, err := focus.NewProxy(focus.ProxyConfig{LiveKitURL: l.HTTPURL, Key: l.Key, Secret: l.Secret, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(rig.Serve(t, rig.Listen(t), proxy), "http", "ws", 1)
}

// ask sends a request to a service and returns the answer.
func ask(t testing.TB, h http.Handler, method, path string, body any) (status int, answer map[string]any, header http.Header) {
	t.Helper()
	text, ok := body.(string)
	if !ok && body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(text)))
	if w.Body.Len() > 0 && json.Unmarshal(w.Body.Bytes(), &answer) != nil {
		t.Fatalf("%s %s answers %q", method, path, w.Body)
	}
	return w.Code, answer, w.Header()
}

func TestServiceConfig(t *testing.T) {
	good := focus.ServiceConfig{LiveKitURL: "http://127.0.0.1:7880", PublicURL: "wss://hub.example.org/livekit/sfu", Key: "k", Secret: strings.Repeat("s", 32)}
	if _, err := focus.NewService(good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*focus.ServiceConfig){
		"no address":        func(c *focus.ServiceConfig) { c.LiveKitURL = "" },
		"wrong scheme":      func(c *focus.ServiceConfig) { c.LiveKitURL = "ws://127.0.0.1" },
		"no public address": func(c *focus.ServiceConfig) { c.PublicURL = "" },
		"not signalling":    func(c *focus.ServiceConfig) { c.PublicURL = "https://hub.example.org" },
		"no key":            func(c *focus.ServiceConfig) { c.Key = "" },
		"short secret":      func(c *focus.ServiceConfig) { c.Secret = "s" },
		"all and some":      func(c *focus.ServiceConfig) { c.FullAccess = []string{"*", "a.example"} },
		"no name":           func(c *focus.ServiceConfig) { c.FullAccess = []string{"https://a.example"} },
	} {
		bad := good
		change(&bad)
		if _, err := focus.NewService(bad); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// TestRequests checks the answers for which no homeserver and no LiveKit are needed.
func TestRequests(t *testing.T) {
	s, err := focus.NewService(focus.ServiceConfig{
		LiveKitURL: "http://127.0.0.1:1", PublicURL: "wss://hub.example.org", Key: "k", Secret: strings.Repeat("s", 32), Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	const token = `{"access_token":"opaque","token_type":"Bearer","matrix_server_name":"127.0.0.1:1","expires_in":3600}`
	plain := func(change ...string) string {
		return strings.NewReplacer(change...).Replace(`{"room":"!abc:a.example","openid_token":` + token + `,"device_id":"KIOSK"}`)
	}
	hashed := func(change ...string) string {
		return strings.NewReplacer(change...).Replace(`{"room_id":"!abc:a.example","slot_id":"m.call#ROOM","openid_token":` + token +
			`,"member":{"id":"m","claimed_user_id":"@u:a.example","claimed_device_id":"KIOSK"}}`)
	}
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"refused address", "POST", "/sfu/get", plain(), 401, "M_UNAUTHORIZED"},
		{"refused address", "POST", "/get_token", hashed(), 401, "M_UNAUTHORIZED"},
		{"nothing", "POST", "/sfu/get", "", 400, "M_NOT_JSON"},
		{"broken", "POST", "/sfu/get", `{"room":`, 400, "M_NOT_JSON"},
		{"a list", "POST", "/sfu/get", `[]`, 400, "M_NOT_JSON"},
		{"two", "POST", "/sfu/get", plain() + plain(), 400, "M_NOT_JSON"},
		{"unknown member", "POST", "/sfu/get", plain(`"room"`, `"more":1,"room"`), 400, "M_NOT_JSON"},
		{"unknown member inside", "POST", "/sfu/get", plain(`"expires_in"`, `"more":1,"expires_in"`), 400, "M_NOT_JSON"},
		{"unknown member inside", "POST", "/get_token", hashed(`"id":"m"`, `"id":"m","more":1`), 400, "M_NOT_JSON"},
		{"the other path's body", "POST", "/sfu/get", hashed(), 400, "M_NOT_JSON"},
		{"the other path's body", "POST", "/get_token", plain(), 400, "M_NOT_JSON"},
		{"wrong type", "POST", "/sfu/get", plain(`"KIOSK"`, `7`), 400, "M_NOT_JSON"},
		{"not UTF-8", "POST", "/sfu/get", plain("KIOSK", "\xff"), 400, "M_NOT_JSON"},
		{"too long", "POST", "/sfu/get", plain("opaque", strings.Repeat("a", 20<<10)), 400, "M_NOT_JSON"},
		{"empty object", "POST", "/sfu/get", `{}`, 400, "M_BAD_JSON"},
		{"no room", "POST", "/sfu/get", plain("!abc:a.example", ""), 400, "M_BAD_JSON"},
		{"an alias", "POST", "/sfu/get", plain("!abc", "#abc"), 400, "M_BAD_JSON"},
		{"long room", "POST", "/sfu/get", plain("abc", strings.Repeat("a", 255)), 400, "M_BAD_JSON"},
		{"no device", "POST", "/sfu/get", plain("KIOSK", ""), 400, "M_BAD_JSON"},
		{"a device with a port", "POST", "/sfu/get", plain("KIOSK", "8448:KIOSK"), 400, "M_BAD_JSON"},
		{"control characters", "POST", "/sfu/get", plain("KIOSK", `\u0007`), 400, "M_BAD_JSON"},
		{"JavaScript's separators", "POST", "/get_token", hashed("KIOSK", `\u2028`), 400, "M_BAD_JSON"},
		{"no access token", "POST", "/sfu/get", plain("opaque", ""), 400, "M_BAD_JSON"},
		{"no server name", "POST", "/sfu/get", plain("127.0.0.1:1", ""), 400, "M_BAD_JSON"},
		{"a URL for a server name", "POST", "/sfu/get", plain("127.0.0.1:1", "a.example/x?y#"), 400, "M_BAD_JSON"},
		{"a user in a server name", "POST", "/sfu/get", plain("127.0.0.1:1", "a@b"), 400, "M_BAD_JSON"},
		{"no member", "POST", "/get_token", hashed(`"id":"m"`, `"id":""`), 400, "M_BAD_JSON"},
		{"no claimed user", "POST", "/get_token", hashed("@u:a.example", ""), 400, "M_BAD_JSON"},
		{"no slot", "POST", "/get_token", hashed("m.call#ROOM", ""), 400, "M_BAD_JSON"},
		{"odd slot", "POST", "/get_token", hashed("m.call#ROOM", "m.call##"), 400, "M_BAD_JSON"},
		{"delegation", "POST", "/sfu/get", plain(`"room"`, `"delay_id":"x","delay_timeout":1000,"room"`), 400, "M_BAD_JSON"},
		{"delegation", "POST", "/sfu/get", plain(`"room"`, `"delay_cs_api_url":"x","room"`), 400, "M_BAD_JSON"},
		{"delegation", "POST", "/get_token", hashed(`"slot_id"`, `"delay_timeout":1000,"slot_id"`), 400, "M_BAD_JSON"},
		{"wrong method", "GET", "/sfu/get", "", 405, "M_UNRECOGNIZED"},
		{"wrong method", "PUT", "/get_token", "", 405, "M_UNRECOGNIZED"},
		{"wrong method", "POST", "/healthz", "", 405, "M_UNRECOGNIZED"},
		{"delegation's path", "POST", "/delegate_delayed_leave", "{}", 404, "M_UNRECOGNIZED"},
		{"webhooks", "POST", "/sfu_webhook", "{}", 404, "M_UNRECOGNIZED"},
		{"slashes", "POST", "//sfu/get", plain(), 404, "M_UNRECOGNIZED"},
		{"asking first", "OPTIONS", "/sfu/get", "", 200, ""},
		{"asking first", "OPTIONS", "/get_token", "", 200, ""},
		{"asking first", "OPTIONS", "/delegate_delayed_leave", "", 200, ""},
		{"health", "GET", "/healthz", "", 200, ""},
		{"health", "HEAD", "/healthz", "", 200, ""},
	} {
		status, answer, header := ask(t, s, c.method, c.path, c.body)
		code, _ := answer["errcode"].(string)
		if status != c.status || code != c.code {
			t.Errorf("%s: %s %s answers %d %v, want %d %s", c.name, c.method, c.path, status, answer, c.status, c.code)
		}
		if code != "" && answer["error"] == "" {
			t.Errorf("%s: no sentence", c.name)
		}
		if header.Get("Access-Control-Allow-Origin") != "*" || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: headers %v", c.name, header)
		}
	}
	if got := s.Stats(); got.Unauthorized != 2 || got.Bad < 20 || got.Full+got.Restricted+got.Limited+got.Failed != 0 {
		t.Errorf("counted %+v", got)
	}
	// Too many requests from one source are refused before a homeserver is asked.
	for range 100 {
		status, answer, _ := ask(t, s, "POST", "/sfu/get", plain())
		if status == http.StatusTooManyRequests {
			if after, _ := answer["retry_after_ms"].(float64); after <= 0 || answer["errcode"] != "M_LIMIT_EXCEEDED" {
				t.Errorf("the limit is answered with %v", answer)
			}
			return
		}
	}
	t.Error("there is no limit")
}

// person is a Matrix user on a real homeserver.
type person struct {
	id     id.UserID
	openID func(t *testing.T) map[string]any
}

func newPerson(t *testing.T, hs *rig.Homeserver, name string) person {
	t.Helper()
	user, _ := hs.Register(t, name)
	client := hs.Client(t, user)
	return person{user, func(t *testing.T) map[string]any {
		t.Helper()
		token, err := client.RequestOpenIDToken(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return map[string]any{
			"access_token": token.AccessToken, "token_type": "Bearer", "matrix_server_name": token.MatrixServerName, "expires_in": 3600,
		}
	}}
}

func (p person) plain(t *testing.T, room string) map[string]any {
	return map[string]any{"room": room, "openid_token": p.openID(t), "device_id": "DEVICE"}
}

// TestRealServers gives users of a real homeserver access to a real LiveKit server. Users of the listed homeserver create rooms, others
// can enter rooms that exist, and nobody can use the media without its key.
func TestRealServers(t *testing.T) {
	hs := rig.StartHomeserver(t)
	l := rig.StartLiveKitWith(t, rig.LiveKitOptions{NoAutoCreate: true})
	log := new(rig.Output)
	own, foreign := newService(t, l, log, hs.ServerName), newService(t, l, log, "elsewhere.example")
	anna, eve := newPerson(t, hs, "anna"), newPerson(t, hs, "eve")
	const room = "!room:elsewhere.example"

	// A restricted user comes before the room exists.
	status, early, _ := ask(t, foreign, "POST", "/sfu/get", eve.plain(t, room))
	if status != http.StatusOK {
		t.Fatalf("a restricted user is answered %d %v", status, early)
	}
	var refused *sfu.RefusedError
	if _, err := sfu.Connect(t.Context(), options(early)); !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		t.Fatalf("a restricted user enters a room that does not exist: %v", err)
	}

	// A user of the listed homeserver creates the room.
	status, answer, _ := ask(t, own, "POST", "/sfu/get", anna.plain(t, room))
	if status != http.StatusOK || answer["url"] != l.URL {
		t.Fatalf("a user of the own homeserver is answered %d %v", status, answer)
	}
	checkToken(t, l, answer["jwt"].(string), string(anna.id)+":DEVICE")
	publishing := options(answer)
	publishing.Publish = true
	host, err := sfu.Connect(t.Context(), publishing)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	send(t, host)

	// Now the restricted user can enter, with the old token and with a new one, and can't decrypt anything.
	for _, answer := range []map[string]any{early, second(ask(t, foreign, "POST", "/sfu/get", eve.plain(t, room)))} {
		listen(t, answer, string(anna.id)+":DEVICE")
	}
	for _, p := range l.Participants(t, publishedRoom(t, l, answer)) {
		for _, info := range p.GetTracks() {
			if info.GetEncryption() != livekit.Encryption_GCM {
				t.Errorf("the server knows %s as %s", info.GetName(), info.GetEncryption())
			}
		}
	}

	// /get_token leads into the same room. A wrong claim is refused.
	hashed := map[string]any{"room_id": room, "slot_id": "m.call#ROOM", "openid_token": eve.openID(t), "member": map[string]any{
		"id": "member", "claimed_user_id": string(eve.id), "claimed_device_id": "DEVICE",
	}}
	status, other, _ := ask(t, foreign, "POST", "/get_token", hashed)
	if status != http.StatusOK || publishedRoom(t, l, other) != publishedRoom(t, l, answer) {
		t.Errorf("the hashed form is answered %d %v", status, other)
	}
	hashed["openid_token"], hashed["member"].(map[string]any)["claimed_user_id"] = eve.openID(t), string(anna.id)
	if status, answer, _ := ask(t, foreign, "POST", "/get_token", hashed); status != http.StatusUnauthorized {
		t.Errorf("a wrong claim is answered %d %v", status, answer)
	}
	// A token of one homeserver is refused under the name of another one.
	body := eve.plain(t, room)
	body["openid_token"].(map[string]any)["matrix_server_name"] = strings.Replace(hs.ServerName, "localhost", "127.0.0.1", 1)
	if status, answer, _ := ask(t, foreign, "POST", "/sfu/get", body); status != http.StatusUnauthorized {
		t.Errorf("another server's name is answered %d %v", status, answer)
	}
	body = eve.plain(t, room)
	body["openid_token"].(map[string]any)["access_token"] = "invented"
	if status, answer, _ := ask(t, own, "POST", "/sfu/get", body); status != http.StatusUnauthorized {
		t.Errorf("an invented token is answered %d %v", status, answer)
	}

	// Without LiveKit no room can be created.
	l.Kill(t)
	status, down, _ := ask(t, own, "POST", "/sfu/get", anna.plain(t, room))
	if status != http.StatusInternalServerError || down["errcode"] != "M_UNKNOWN" {
		t.Errorf("without LiveKit: %d %v", status, down)
	}
	if got := own.Stats(); got.Full != 1 || got.Failed != 1 || got.Unauthorized != 1 {
		t.Errorf("the own service counts %+v", got)
	}
	if got := foreign.Stats(); got.Restricted != 3 || got.Unauthorized != 2 {
		t.Errorf("the foreign service counts %+v", got)
	}
	for _, secret := range []string{l.Secret, answer["jwt"].(string), body["openid_token"].(map[string]any)["access_token"].(string), "eyJ"} {
		if strings.Contains(log.String(), secret) {
			t.Error("a secret is in the log")
		}
	}
}

// TestRestart restarts LiveKit, which then has no rooms. The proxy creates the room again for a client that goes on with its old token, as Element
// Call does, if its user may create rooms. The token itself does not create it.
func TestRestart(t *testing.T) {
	hs := rig.StartHomeserver(t)
	l := rig.StartLiveKitWith(t, rig.LiveKitOptions{NoAutoCreate: true})
	anna, eve := newPerson(t, hs, "anna"), newPerson(t, hs, "eve")
	signalling := newProxy(t, l)
	token := func(signalling string, p person, full string) map[string]any {
		s := newServiceAt(t, l, signalling, io.Discard, full)
		status, answer, _ := ask(t, s, "POST", "/sfu/get", p.plain(t, "!room:elsewhere.example"))
		if status != http.StatusOK {
			t.Fatalf("answered %d %v", status, answer)
		}
		return answer
	}
	direct, restricted, proxied := token(l.URL, anna, hs.ServerName), token(signalling, eve, "elsewhere.example"), token(signalling, anna, hs.ServerName)
	l.Kill(t)
	l.Restart(t)
	for name, answer := range map[string]map[string]any{"direct": direct, "restricted": restricted} {
		var refused *sfu.RefusedError
		if _, err := sfu.Connect(t.Context(), options(answer)); !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
			t.Errorf("%s: enters a room that no longer exists: %v", name, err)
		}
	}
	room, err := sfu.Connect(t.Context(), options(proxied))
	if err != nil {
		t.Fatal(err)
	}
	defer room.Close()
	other, err := sfu.Connect(t.Context(), options(restricted)) // now the room exists
	if err != nil {
		t.Fatal(err)
	}
	_ = other.Close()
}

func second(_ int, answer map[string]any, _ http.Header) map[string]any { return answer }

func options(answer map[string]any) sfu.Options {
	url, _ := answer["url"].(string)
	token, _ := answer["jwt"].(string)
	return sfu.Options{URL: url, Token: token, AllowLoopback: true, Log: zerolog.Nop()}
}

// grants reads a token with LiveKit's own code.
func grants(t *testing.T, l *rig.LiveKit, jwt string) (*auth.ClaimGrants, time.Time) {
	t.Helper()
	v, err := auth.ParseAPIToken(jwt)
	if err != nil {
		t.Fatal(err)
	}
	claims, g, err := v.Verify(l.Secret)
	if err != nil {
		t.Fatal(err)
	}
	return g, claims.ExpiresAt.Time
}

func publishedRoom(t *testing.T, l *rig.LiveKit, answer map[string]any) string {
	t.Helper()
	g, _ := grants(t, l, answer["jwt"].(string))
	return g.Video.Room
}

func checkToken(t *testing.T, l *rig.LiveKit, jwt, identity string) {
	t.Helper()
	g, expires := grants(t, l, jwt)
	v := g.Video
	if g.Identity != identity || !v.RoomJoin || !v.GetCanPublish() || !v.GetCanSubscribe() || v.GetCanUpdateOwnMetadata() {
		t.Errorf("the token grants %+v", g)
	}
	if v.RoomCreate || v.RoomAdmin || v.RoomList || v.RoomRecord || v.IngressAdmin || v.Hidden {
		t.Errorf("the token grants too much: %+v", v)
	}
	if left := time.Until(expires); left < 59*time.Minute || left > time.Hour {
		t.Errorf("the token is valid for %s", left)
	}
}

// plainKeyFrame is a frame before encryption: a VP8 key frame's header, and bytes to recognise it by.
var plainKeyFrame = append([]byte{0x10, 0, 0, 0x9d, 0x01, 0x2a, 0, 5, 0xd0, 2}, bytes.Repeat([]byte("picture!"), 200)...)

var ownKey = []byte("0123456789abcdef")

// send publishes encrypted frames until the test ends.
func send(t *testing.T, room *sfu.Room) {
	t.Helper()
	audio, err := room.PublishAudio(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	video, err := room.PublishVideo(t.Context(), sfu.Size{Width: 1280, Height: 720})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		opus, _ := e2ee.NewEncryptor(codec.Opus)
		vp8, _ := e2ee.NewEncryptor(codec.VP8)
		_, _ = opus.SetKey(0, ownKey), vp8.SetKey(0, ownKey)
		sound, picture := frames.NewPacketizer(codec.Opus, 0, 0, 0, frames.RandomSeed()), frames.NewPacketizer(codec.VP8, 0, 0, 0, frames.RandomSeed())
		for n := uint32(1); ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if f, err := opus.Encrypt(nil, append([]byte{0xf8}, "sound!"...)); err == nil {
				_ = sound.Packetize(f, n*960, func(p *rtp.Packet) error { return audio.Layers[0].WriteRTP(p) })
			}
			if f, err := vp8.Encrypt(nil, plainKeyFrame); err == nil {
				_ = picture.Packetize(f, n*1800, func(p *rtp.Packet) error { return video.Layers[0].WriteRTP(p) })
			}
		}
	}()
}

// listen enters a room with a token and without media keys. It demands that a participant's tracks are announced as encrypted and can't be
// decrypted.
func listen(t *testing.T, answer map[string]any, from string) {
	t.Helper()
	room, err := sfu.Connect(t.Context(), options(answer))
	if err != nil {
		t.Fatalf("the room can't be entered: %v", err)
	}
	defer room.Close()
	limit := time.After(10 * time.Second)
	for kinds := map[livekit.TrackType]bool{}; len(kinds) < 2; {
		select {
		case <-limit:
			t.Fatalf("only %v came", kinds)
		case event, open := <-room.Events():
			if !open {
				t.Fatal("the room ended")
			}
			e, ok := event.(sfu.TrackSubscribed)
			if !ok || e.Identity != from {
				continue
			}
			kinds[e.Kind] = true
			if e.Encryption != livekit.Encryption_GCM {
				t.Errorf("%s is announced as %s", e.Source, e.Encryption)
			}
			coding, plain := codec.Opus, []byte("sound!")
			if e.Kind == livekit.TrackType_VIDEO {
				coding, plain = codec.VP8, []byte("picture!")
			}
			assembler := frames.NewAssembler(coding)
			right := e2ee.NewKeyRing()
			if err := right.Set(0, ownKey); err != nil {
				t.Fatal(err)
			}
			for n := 0; n < 5; {
				p, _, err := e.Remote.ReadRTP()
				if err != nil {
					t.Fatal(err)
				}
				assembler.Push(time.Now(), p)
				for f, ok := assembler.Pop(time.Now()); ok; f, ok = assembler.Pop(time.Now()) {
					n++
					if bytes.Contains(f.Data, plain) {
						t.Errorf("%s can be read without a key", e.Source)
					}
					if out, err := e2ee.NewDecryptor(coding, e2ee.NewKeyRing(), nil).Decrypt(nil, f.Data); err == nil || len(out) != 0 {
						t.Errorf("%s decrypts without a key", e.Source)
					}
					// With the key it is the right frame.
					if out, err := e2ee.NewDecryptor(coding, right, nil).Decrypt(nil, f.Data); err != nil || !bytes.Contains(out, plain) {
						t.Errorf("%s does not decrypt with the key: %v", e.Source, err)
					}
				}
			}
		}
	}
}

// TestProxy joins a room through the proxy, and demands that everything else is closed.
func TestProxy(t *testing.T) {
	l := rig.StartLiveKit(t)
	good := focus.ProxyConfig{LiveKitURL: l.HTTPURL, Key: l.Key, Secret: l.Secret, Log: zerolog.Nop()}
	proxy, err := focus.NewProxy(good)
	if err != nil {
		t.Fatal(err)
	}
	var passed atomic.Int64
	front := rig.Serve(t, rig.Listen(t), http.StripPrefix("/livekit/sfu", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		passed.Add(1)
		proxy.ServeHTTP(w, r)
	})))
	base := front + "/livekit/sfu"
	room, err := sfu.Connect(t.Context(), sfu.Options{
		URL: strings.Replace(base, "http", "ws", 1), Token: l.Token(t, "a", "room"), AllowLoopback: true, Publish: true, Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := room.PublishAudio(t.Context()); err != nil {
		t.Error(err)
	}
	_ = room.Close()

	admin, err := auth.NewAccessToken(l.Key, l.Secret).SetIdentity("admin").SetVideoGrant(&auth.VideoGrant{RoomAdmin: true, RoomCreate: true, RoomList: true, RoomJoin: true, Room: "room"}).ToJWT()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/rtc/validate", 200}, {"GET", "/rtc/v1/validate", 400}, {"GET", "/", 404}, {"GET", "", 404},
		{"POST", "/twirp/livekit.RoomService/ListRooms", 404}, {"GET", "/twirp/livekit.RoomService/ListRooms", 404},
		{"POST", "/rtc", 405}, {"POST", "/rtc/v1", 405}, {"DELETE", "/rtc/validate", 405},
		{"POST", "/whip", 404}, {"GET", "/whip/v1", 404}, {"PATCH", "/whip/v1/x", 404}, {"GET", "/agent", 404}, {"GET", "/debug/rooms", 404},
		{"POST", "/rtc/../twirp/livekit.RoomService/ListRooms", 404}, {"POST", "/rtc%2f..%2ftwirp/livekit.RoomService/ListRooms", 404},
		{"GET", "//rtc/validate", 404}, {"GET", "/rtc/", 404}, {"GET", "/RTC/validate", 404}, {"GET", "/rtc/v2", 404},
	} {
		request, err := http.NewRequestWithContext(t.Context(), c.method, base+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+admin)
		answer, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != c.status {
			t.Errorf("%s %s answers %d %q, want %d", c.method, c.path, answer.StatusCode, text, c.status)
		}
	}
	// A request with a body, as in request smuggling.
	request := must(http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/rtc/validate", strings.NewReader("POST / HTTP/1.1\r\n\r\n")))
	answer := must(http.DefaultTransport.RoundTrip(request))
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusBadRequest {
		t.Errorf("a body is answered with %d", answer.StatusCode)
	}
	l.Kill(t)
	answer = must(http.DefaultTransport.RoundTrip(must(http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/rtc/validate", nil))))
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusBadGateway {
		t.Errorf("without LiveKit the proxy answers %d", answer.StatusCode)
	}
	for _, bad := range []string{"", "ws://127.0.0.1", "127.0.0.1:7880", "http://"} {
		cfg := good
		cfg.LiveKitURL = bad
		if _, err := focus.NewProxy(cfg); err == nil {
			t.Errorf("the address %q is taken", bad)
		}
	}
	good.Secret = "short"
	if _, err := focus.NewProxy(good); err == nil {
		t.Error("a short secret is taken")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprint("test: ", err))
	}
	return v
}

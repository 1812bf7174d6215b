//go:build full

package e2e_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/rs/zerolog"
	"golang.org/x/image/vp8"
	"maunium.net/go/mautrix"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/e2ee"
	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/sfu"
	"multifactorymodel.org/ewindow/cmd/e2e/browser"
)

// stranger is a LiveKit participant with a valid access token, but without media keys: no member has sent it one.
type stranger struct {
	room *sfu.Room
	read sync.WaitGroup

	mu     sync.Mutex // guards what follows
	tracks map[string]livekit.Encryption_Type
	keys   [][]byte // VP8 key frames, still encrypted
	audio  [][]byte // Opus frames, still encrypted
}

// joinAsStranger connects to the LiveKit room of a Matrix room's call with the admin's account, which is not in that call. Access is refused until the
// account is in the Matrix room.
func (n *demoNetwork) joinAsStranger(room string) *stranger {
	t := n.t
	t.Helper()
	client := n.admin()
	if status, token := n.askForToken(0, client, room); status != http.StatusForbidden || token.ErrCode != "M_FORBIDDEN" {
		t.Errorf("somebody who is not in the room is answered %d %s", status, token.ErrCode)
	}
	s := &stranger{room: n.joinAsMember(client, room), tracks: make(map[string]livekit.Encryption_Type)}
	s.read.Go(s.listen)
	t.Cleanup(func() {
		_ = s.room.Close()
		s.read.Wait()
	})
	return s
}

// joinAsMember lets an account join a room, and connects to the first window's LiveKit for its call. The connection ends with the test.
func (n *demoNetwork) joinAsMember(client *mautrix.Client, room string) *sfu.Room {
	t := n.t
	t.Helper()
	if _, err := client.JoinRoom(t.Context(), room, nil); err != nil {
		t.Fatal(err)
	}
	status, token := n.askForToken(0, client, room)
	if status != http.StatusOK {
		t.Fatalf("the authorisation service answers %d %s", status, token.ErrCode)
	}
	connection, err := sfu.Connect(t.Context(), sfu.Options{URL: token.URL, Token: token.JWT, AllowLoopback: true, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func (s *stranger) listen() {
	for e := range s.room.Events() {
		switch e := e.(type) {
		case sfu.TrackPublished:
			s.mu.Lock()
			s.tracks[e.Identity+" "+e.Source.String()] = e.Encryption
			s.mu.Unlock()
		case sfu.TrackSubscribed:
			s.read.Go(func() { s.record(e) })
			s.room.RequestKeyFrame(e.TrackSID)
		}
	}
}

// record stores a track's frames as they arrive, without decrypting them.
func (s *stranger) record(e sfu.TrackSubscribed) {
	coding := codec.Opus
	if e.Kind == livekit.TrackType_VIDEO {
		coding = codec.VP8
	}
	assembler := frames.NewAssembler(coding)
	for {
		packet, _, err := e.Remote.ReadRTP()
		if err != nil {
			return
		}
		assembler.Push(time.Now(), packet)
		for f, ok := assembler.Pop(time.Now()); ok; f, ok = assembler.Pop(time.Now()) {
			if bytes.HasSuffix(f.Data, s.room.SIFTrailer()) {
				continue // LiveKit made this frame of silence itself, because it had no frame to forward
			}
			s.mu.Lock()
			switch {
			case coding == codec.Opus && len(s.audio) < 500:
				s.audio = append(s.audio, bytes.Clone(f.Data))
			case coding == codec.VP8 && len(f.Data) > 0 && f.Data[0]&1 == 0 && len(s.keys) < 20:
				s.keys = append(s.keys, bytes.Clone(f.Data))
			}
			s.mu.Unlock()
		}
	}
}

func (s *stranger) count() (keys, audio, tracks int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.keys), len(s.audio), len(s.tracks)
}

// plainColour decodes a key frame as plain VP8 and returns the colour of the source that it shows. It returns "" if the frame is not valid
// VP8 or shows none of the sources.
func plainColour(frame []byte) string {
	d := vp8.NewDecoder()
	d.Init(bytes.NewReader(frame), len(frame))
	if _, err := d.DecodeFrameHeader(); err != nil {
		return ""
	}
	picture, err := d.DecodeFrame()
	if err != nil {
		return ""
	}
	return classify(picture).colour
}

// checkStrangerCannotDecrypt lets a stranger subscribe to all tracks of the visit, and checks that every frame is encrypted.
func (n *demoNetwork) checkStrangerCannotDecrypt() {
	t := n.t
	t.Helper()
	var found *stranger
	// Munich's room first: Dendrite does not let the admin into Dresden's, where another user of the admin's homeserver is.
	for _, room := range slices.Backward(n.windowRooms()) {
		s := n.joinAsStranger(room)
		limit := time.After(10 * time.Second)
		tick := time.NewTicker(50 * time.Millisecond)
		for waiting := true; waiting; {
			if keys, audio, tracks := s.count(); keys >= 2 && audio >= 100 && tracks == 4 {
				found, waiting = s, false
				break
			}
			select {
			case <-tick.C:
			case <-limit:
				waiting = false
			}
		}
		tick.Stop()
		if found != nil {
			break
		}
	}
	if found == nil {
		t.Fatal("the stranger found no call with four tracks in either room")
	}
	found.mu.Lock()
	defer found.mu.Unlock()
	for track, encryption := range found.tracks {
		if encryption != livekit.Encryption_GCM {
			t.Errorf("%s is published with encryption %v", track, encryption)
		}
	}
	for _, frame := range append(append([][]byte(nil), found.keys...), found.audio...) {
		if n := len(frame); n < 31 || frame[n-2] != 12 {
			t.Errorf("a frame of %d bytes has no trailer of an encrypted frame", n)
		}
	}
	for _, frame := range found.keys {
		if colour := plainColour(frame); colour != "" {
			t.Errorf("a key frame shows %s to a stranger without media keys", colour)
		}
	}
	// A decryptor without keys can't decrypt them.
	decryptor := e2ee.NewDecryptor(codec.Opus, e2ee.NewKeyRing(), nil)
	for _, frame := range found.audio {
		if _, err := decryptor.Decrypt(nil, frame); err == nil {
			t.Error("a frame of sound was decrypted without a key")
		}
	}
	t.Logf("the stranger got %d key frames and %d frames of sound, all encrypted", len(found.keys), len(found.audio))
}

// encodePlain is a script that encodes a picture in Dresden's blue as an unencrypted VP8 key frame.
const encodePlain = `(async () => {
	const canvas = new OffscreenCanvas(320, 240), draw = canvas.getContext("2d");
	draw.fillStyle = "rgb(61, 95, 228)";
	draw.fillRect(0, 0, 320, 240);
	let bytes;
	const encoder = new VideoEncoder({
		output: (chunk) => { bytes = new Uint8Array(chunk.byteLength); chunk.copyTo(bytes); },
		error: (e) => { throw e; },
	});
	encoder.configure({ codec: "vp8", width: 320, height: 240 });
	encoder.encode(new VideoFrame(canvas, { timestamp: 0 }), { keyFrame: true });
	await encoder.flush();
	return btoa(String.fromCharCode(...bytes));
})()`

// TestPlainColour checks that a stranger would recognise a picture that is not encrypted.
func TestPlainColour(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<title>plain</title>") }))
	defer server.Close()
	page := browser.Start(t, server.URL, browser.Options{})
	var frame []byte // base64 in JSON
	if err := page.Eval(t.Context(), encodePlain, &frame); err != nil {
		t.Fatal(err)
	}
	if got := plainColour(frame); got != "blue" {
		t.Errorf("an unencrypted key frame of a blue picture is classified as %q", got)
	}
}

package callmedia

import (
	"bytes"
	"testing"

	"github.com/livekit/protocol/livekit"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/e2ee"
	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/track"
)

func TestPlayable(t *testing.T) {
	s, _ := idle(t)
	const gcm, none, custom = livekit.Encryption_GCM, livekit.Encryption_NONE, livekit.Encryption_CUSTOM
	for _, c := range []struct {
		source     livekit.TrackSource
		encryption livekit.Encryption_Type
		mimeType   string
		want       bool
	}{
		{livekit.TrackSource_CAMERA, gcm, "video/VP8", true},
		{livekit.TrackSource_MICROPHONE, gcm, "audio/opus", true},
		{livekit.TrackSource_CAMERA, none, "video/VP8", false},
		{livekit.TrackSource_MICROPHONE, none, "audio/opus", false},
		{livekit.TrackSource_CAMERA, custom, "video/VP8", false},
		{livekit.TrackSource_CAMERA, gcm, "video/vp9", true},
		{livekit.TrackSource_CAMERA, gcm, "video/H264", true},
		{livekit.TrackSource_CAMERA, gcm, "video/AV1", false},
		{livekit.TrackSource_SCREEN_SHARE, gcm, "", false},
		{livekit.TrackSource_CAMERA, gcm, "audio/opus", false},
		{livekit.TrackSource_MICROPHONE, gcm, "audio/red", false},
		{livekit.TrackSource_MICROPHONE, gcm, "video/VP8", false},
		{livekit.TrackSource_SCREEN_SHARE, gcm, "video/VP8", true},
		{livekit.TrackSource_SCREEN_SHARE, none, "video/VP8", false},
		{livekit.TrackSource_SCREEN_SHARE_AUDIO, gcm, "audio/opus", false},
		{livekit.TrackSource_UNKNOWN, gcm, "video/VP8", false},
	} {
		if got := s.playable(c.source, c.encryption, codec.Find(c.mimeType)); got != c.want {
			t.Errorf("%s, %s, %s is playable: %t", c.source, c.encryption, c.mimeType, got)
		}
	}
}

// recorder is a Local that records the last frame.
type recorder struct {
	Local
	codec codec.Codec
	data  []byte
}

func (r *recorder) Shows(c codec.Codec) bool { return c != codec.H264 }

func (r *recorder) WriteFrame(_ int, _ track.Kind, c codec.Codec, _ track.Source, _ uint32, data []byte) {
	r.codec, r.data = c, append(r.data[:0], data...)
}

// TestLayers decrypts the layers of a VP9 picture one by one, and hands them on together.
func TestLayers(t *testing.T) {
	s, local := idle(t)
	shown := &recorder{Local: local}
	s.cfg.Local = shown
	encryptor, err := e2ee.NewEncryptor(codec.VP9)
	if err != nil {
		t.Fatal(err)
	}
	key, ring := []byte("fedcba9876543210"), e2ee.NewKeyRing()
	for _, err := range []error{encryptor.SetKey(0, key), ring.Set(0, key)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	low, high := bytes.Repeat([]byte{0x82, 1}, 500), bytes.Repeat([]byte{0x86, 2}, 900)
	data, err := encryptor.Encrypt(nil, low)
	if err != nil {
		t.Fatal(err)
	}
	middle := len(data)
	if data, err = encryptor.Encrypt(data, high); err != nil {
		t.Fatal(err)
	}
	r := &receiver{session: s, identity: "x", kind: track.Video, codec: codec.VP9}
	r.keys.Ask = func() {}
	r.showing.Store(&showing{tile: 1, decryptor: r.newDecryptor(ring)})
	f := frames.Frame{Data: data, Layers: []int{middle, len(data)}, Key: true}
	if !r.frame(f) || shown.codec != codec.VP9 || !bytes.Equal(shown.data, append(low, high...)) {
		t.Errorf("%d bytes in %s were shown", len(shown.data), shown.codec)
	}
	if n := testing.AllocsPerRun(100, func() { r.frame(f) }); n != 0 {
		t.Errorf("%v allocations a frame, want none", n)
	}
	data[len(data)-20] ^= 1
	if r.frame(f) {
		t.Error("a picture whose upper layer is damaged can be used")
	}
}

// TestReceiver decrypts frames, and asks for key frames only when they can help.
func TestReceiver(t *testing.T) {
	s, local := idle(t)
	encryptor, err := e2ee.NewEncryptor(codec.VP8)
	if err != nil {
		t.Fatal(err)
	}
	mine := []byte("fedcba9876543210")
	if err := encryptor.SetKey(3, mine); err != nil {
		t.Fatal(err)
	}
	plain := local.KeyFrame()
	sealed, err := encryptor.Encrypt(nil, plain)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	r := &receiver{session: s, identity: "x", kind: track.Video, codec: codec.VP8, trailer: []byte("trailer")}
	r.keys.Ask = func() { asked++ }
	f := frames.Frame{Data: sealed, Key: true}
	r.needKeyFrame()
	if !r.frame(f) || asked != 0 {
		t.Error("a track that is not shown asks for something")
	}
	ring := e2ee.NewKeyRing()
	r.showing.Store(&showing{tile: 1, decryptor: r.newDecryptor(ring)})
	if r.frame(f) {
		t.Error("a frame without a key can be used")
	}
	r.needKeyFrame()
	if asked != 0 {
		t.Error("a key frame was asked for that can't be decrypted")
	}
	if r.frame(frames.Frame{Data: append(bytes.Clone(plain), "trailer"...), Key: true}) {
		t.Error("a frame of the server's own can be built on")
	}
	if err := ring.Set(3, mine); err != nil {
		t.Fatal(err)
	}
	r.askKeyFrame()
	if asked != 1 {
		t.Error("with the key no key frame is asked for")
	}
	if !r.frame(f) {
		t.Error("the right key does not help")
	}
	if _, video, broken := local.Shown(1); video != 1 || broken != 0 {
		t.Errorf("%d pictures were shown, %d of them broken", video, broken)
	}
	sealed[len(sealed)-20] ^= 1
	if r.frame(f) {
		t.Error("a damaged frame can be used")
	}
	sealed[len(sealed)-20] ^= 1
	if n := testing.AllocsPerRun(100, func() { r.frame(f) }); n != 0 {
		t.Errorf("%v allocations a frame, want none", n)
	}
	if got := s.Stats(); got.NoKey != 1 || got.Injected != 1 || got.Undecryptable != 1 || got.Unwanted != 1 {
		t.Errorf("counted %+v", got)
	}
}

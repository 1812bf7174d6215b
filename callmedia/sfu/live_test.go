package sfu_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
	"github.com/pion/rtp"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/callmedia/sfu"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// patience bounds every wait in these tests.
const patience = time.Minute

func join(t testing.TB, s *rig.LiveKit, identity string, change func(*sfu.Options)) *sfu.Room {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	opts := sfu.Options{URL: s.URL, Token: s.Token(t, identity, "glass"), AllowLoopback: true, Publish: true,
		Log: zerolog.New(zerolog.NewTestWriter(t))}
	if change != nil {
		change(&opts)
	}
	room, err := sfu.Connect(ctx, opts)
	if err != nil {
		t.Fatalf("%s: %v", identity, err)
	}
	t.Cleanup(func() { _ = room.Close() })
	return room
}

// await reads events until one is of type E and passes match (nil: any).
func await[E sfu.Event](t testing.TB, room *sfu.Room, match func(E) bool) E {
	t.Helper()
	deadline := time.After(patience)
	var seen []string
	for {
		select {
		case e, ok := <-room.Events():
			if !ok {
				t.Fatalf("events ended while waiting for %T, after %s", *new(E), seen)
			}
			if want, ok := e.(E); ok && (match == nil || match(want)) {
				return want
			}
			seen = append(seen, fmt.Sprintf("%T", e))
		case <-deadline:
			t.Fatalf("no %T within %s, only %s", *new(E), patience, seen)
		}
	}
}

// frame is the payload of one RTP packet with a whole VP8 frame: payload descriptor, frame header, and bytes n.
func frame(key bool, n byte) []byte {
	if key {
		return append([]byte{0x10, 0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00}, bytes.Repeat([]byte{n}, 600)...)
	}
	return append([]byte{0x10, 0x11, 0, 0}, bytes.Repeat([]byte{n}, 600)...)
}

// play writes packets of both tracks every 20 ms until stop is closed, with a key frame whenever key is set.
func play(audio, video *sfu.LocalTrack, key *atomic.Bool, stop <-chan struct{}) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for n := uint32(0); ; n++ {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		_ = audio.Layers[0].WriteRTP(&rtp.Packet{Header: rtp.Header{SequenceNumber: uint16(n), Timestamp: n * 960},
			Payload: bytes.Repeat([]byte{byte(n)}, 80)})
		_ = video.Layers[0].WriteRTP(&rtp.Packet{Header: rtp.Header{SequenceNumber: uint16(n), Timestamp: n * 1800, Marker: true},
			Payload: frame(key.Swap(false), byte(n))})
	}
}

func publish(t testing.TB, room *sfu.Room) (audio, video *sfu.LocalTrack) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	audio, err := room.PublishAudio(ctx)
	if err != nil {
		t.Fatal(err)
	}
	video, err = room.PublishVideo(ctx, sfu.Size{Width: 320, Height: 180})
	if err != nil {
		t.Fatal(err)
	}
	return audio, video
}

// playing writes packets of both tracks, with key frames when they are asked for, until the test ends.
func playing(t testing.TB, audio, video *sfu.LocalTrack) (asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	var key atomic.Bool
	key.Store(true)
	video.OnKeyFrameRequest(func(int) { asked.Add(1); key.Store(true) })
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { defer close(stopped); play(audio, video, &key, stop) }()
	t.Cleanup(func() { close(stop); <-stopped })
	return asked
}

// TestAskBitrate lets one participant tell another through LiveKit what its line carries. Somebody else in the room is not told. Others receive what it
// publishes on a connection on which they do not publish themselves, as windows do at foreign SFUs.
func TestAskBitrate(t *testing.T) {
	s := rig.StartLiveKit(t)
	munich := join(t, s, "@munich:b:DEV", nil)
	publish(t, munich) // the data channel is a part of this connection
	dresden := join(t, s, "@dresden:a:DEV", func(o *sfu.Options) { o.Publish = false })
	rome := join(t, s, "@rome:c:DEV", func(o *sfu.Options) { o.Publish = false })
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			munich.AskBitrate("@dresden:a:DEV", 300_000, true, 7)
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	for range 3 {
		if e := await[sfu.BitrateAsked](t, dresden, nil); e.Identity != "@munich:b:DEV" || e.BPS != 300_000 || !e.Slow || e.Lost != 7 {
			t.Errorf("%+v", e)
		}
	}
	close(stop)
	<-stopped
	dresden.AskBitrate("@munich:b:DEV", 1, false, 0) // without a publishing connection it does nothing
	_ = rome.Close()
	for e := range rome.Events() {
		if ask, ok := e.(sfu.BitrateAsked); ok {
			t.Errorf("somebody else is told: %+v", ask)
		}
	}
}

// TestMetadata lets three participants set as much metadata as LiveKit takes by default. Everybody is told about all of it in one message. That
// must not keep a window out.
func TestMetadata(t *testing.T) {
	s := rig.StartLiveKit(t)
	munich := join(t, s, "@munich:b:DEV", nil)
	can := true
	awaited := make(map[string]bool)
	for i := range 3 {
		identity := fmt.Sprintf("@eve:a:DEV%d", i)
		awaited[identity] = true
		eve := join(t, s, identity, func(o *sfu.Options) {
			o.Token = s.TokenWith(t, identity, &auth.VideoGrant{RoomJoin: true, Room: "glass", CanUpdateOwnMetadata: &can})
		})
		eve.SetMetadata(strings.Repeat("x", 500<<10))
	}
	// The SFU announces a participant whose media connection is up, so they come in any order.
	await(t, munich, func(e sfu.ParticipantJoined) bool {
		delete(awaited, e.Identity)
		return len(awaited) == 0
	})
	for _, identity := range []string{"@dresden:a:DEV", "@rome:c:DEV"} {
		join(t, s, identity, nil)
		await(t, munich, func(e sfu.ParticipantJoined) bool { return e.Identity == identity })
	}
	for _, p := range s.Participants(t, "glass") {
		if n := len(p.GetMetadata()); n > 8<<10 {
			t.Errorf("%s has %d bytes of metadata", p.GetIdentity(), n)
		}
	}
}

// TestPublishAndSubscribe publishes sound and picture of one participant to another, and checks all that the other is told about them.
func TestPublishAndSubscribe(t *testing.T) {
	s := rig.StartLiveKit(t)
	var bitrate atomic.Int64
	dresden := join(t, s, "@dresden:a:DEV", func(o *sfu.Options) { o.OnBitrate = func(bps int) { bitrate.Store(int64(bps)) } })
	munich := join(t, s, "@munich:b:DEV", func(o *sfu.Options) { o.Publish = false })
	if dresden.Identity() != "@dresden:a:DEV" || len(munich.SIFTrailer()) == 0 {
		t.Errorf("identity %q, a trailer of %d bytes", dresden.Identity(), len(munich.SIFTrailer()))
	}
	audio, video := publish(t, dresden)
	asked := playing(t, audio, video)
	now := time.Now()
	audio.Layers[0].SetClock(now, 1000)
	video.Layers[0].SetClock(now, 5000)

	var got [2]sfu.TrackSubscribed
	for i := range got {
		got[i] = await[sfu.TrackSubscribed](t, munich, nil)
	}
	slices.SortFunc(got[:], func(a, b sfu.TrackSubscribed) int { return int(a.Kind) - int(b.Kind) })
	for i, want := range []struct {
		track  *sfu.LocalTrack
		source livekit.TrackSource
		kind   livekit.TrackType
	}{{audio, livekit.TrackSource_MICROPHONE, livekit.TrackType_AUDIO}, {video, livekit.TrackSource_CAMERA, livekit.TrackType_VIDEO}} {
		e := got[i]
		if e.Identity != "@dresden:a:DEV" || e.TrackSID != want.track.SID() || e.Source != want.source || e.Kind != want.kind {
			t.Errorf("track %d is %+v, want %s %v", i, e, want.track.SID(), want)
		}
		if e.Encryption != livekit.Encryption_GCM {
			t.Errorf("track %d is announced with encryption %s", i, e.Encryption)
		}
		// What comes is what was sent.
		for range 5 {
			p, _, err := e.Remote.ReadRTP()
			if err != nil {
				t.Fatalf("track %d: %v", i, err)
			}
			body := p.Payload[len(p.Payload)-80:]
			if !bytes.Equal(body, bytes.Repeat(body[:1], 80)) {
				t.Errorf("track %d carries something else", i)
			}
		}
	}
	// The server itself knows all tracks as encrypted and without redundancy.
	tracks := 0
	for _, p := range s.Participants(t, "glass") {
		for _, info := range p.GetTracks() {
			if tracks++; info.GetEncryption() != livekit.Encryption_GCM || !info.GetDisableRed() {
				t.Errorf("the server has %s with encryption %s, RED off %v", info.GetSid(), info.GetEncryption(), info.GetDisableRed())
			}
		}
	}
	if tracks != 2 {
		t.Errorf("the server has %d tracks", tracks)
	}
	before := asked.Load()
	rig.Eventually(t, patience, func() error {
		munich.RequestKeyFrame(video.SID())
		if asked.Load() == before {
			return fmt.Errorf("no key frame was asked for; %+v", dresden.Stats())
		}
		return nil
	})
	if munich.RequestKeyFrame("TR_nothing") {
		t.Error("a key frame of an unknown track was asked for")
	}
	rig.Eventually(t, patience, func() error {
		ntp, rtp, ok := munich.SenderClock(video.SID())
		if !ok {
			return fmt.Errorf("the sender's clock is not known; %+v", munich.Stats())
		}
		// Both clocks may have moved on since, but together.
		if off := ntp.Sub(now) - time.Duration(int32(rtp-5000))*time.Second/90000; off.Abs() >= 2*time.Millisecond {
			return fmt.Errorf("the sender's clock is off by %s", off)
		}
		return nil
	})
	rig.Eventually(t, patience, func() error {
		if bitrate.Load() == 0 {
			return errors.New("there is no estimate")
		}
		return nil
	})
	video.SetMuted(true)
	if m := await[sfu.TrackMuted](t, munich, nil); m.TrackSID != video.SID() || !m.Muted {
		t.Errorf("the muted track is %+v", m)
	}
	stats := dresden.Stats()
	if stats.PacketsSent == 0 || stats.BytesSent == 0 || stats.KeyFramesWanted == 0 || stats.BadRTCP != 0 || stats.StraySignals != 0 {
		t.Errorf("dresden counts %+v", stats)
	}
	_ = dresden.Close()
	await(t, munich, func(e sfu.TrackGone) bool { return e.TrackSID == video.SID() })
	await(t, munich, func(e sfu.ParticipantLeft) bool { return e.Identity == "@dresden:a:DEV" })
	if err := video.Layers[0].WriteRTP(&rtp.Packet{}); !errors.Is(err, sfu.ErrClosed) {
		t.Errorf("a track of a closed room takes packets: %v", err)
	}
	if _, err := dresden.PublishAudio(t.Context()); !errors.Is(err, sfu.ErrClosed) {
		t.Errorf("a closed room publishes: %v", err)
	}
	_, _ = munich.Close(), munich.Close()
	rig.Eventually(t, patience, func() error {
		if list := s.Participants(t, "glass"); len(list) != 0 {
			return fmt.Errorf("rooms were closed, but the server still has %v", list)
		}
		return nil
	})
}

// TestEnds checks the last event of rooms that end in different ways.
func TestEnds(t *testing.T) {
	s := rig.StartLiveKit(t)
	first := join(t, s, "@twice:a:DEV", nil)
	publish(t, first)
	second := join(t, s, "@twice:a:DEV", nil)
	var leave *sfu.LeaveError
	if e := await[sfu.Disconnected](t, first, nil); e.Reason != sfu.ReasonLeave || !errors.As(e.Err, &leave) || leave.Reason != livekit.DisconnectReason_DUPLICATE_IDENTITY {
		t.Errorf("the room whose identity was taken ended with %+v", e)
	}
	s.Kill(t)
	if e := await[sfu.Disconnected](t, second, nil); e.Reason != sfu.ReasonSignal && e.Reason != sfu.ReasonMedia {
		t.Errorf("the room whose server was killed ended with %+v", e)
	}
	s.Restart(t)
	third := join(t, s, "@twice:a:DEV", nil)
	_ = third.Close()
	if e := await[sfu.Disconnected](t, third, nil); e.Reason != sfu.ReasonClosed || e.Err != nil {
		t.Errorf("the closed room ended with %+v", e)
	}
	if _, open := <-third.Events(); open {
		t.Error("there are events after the last one")
	}
}

// TestRefused checks the errors for tokens that are not valid. They must not repeat the token.
func TestRefused(t *testing.T) {
	s := rig.StartLiveKitWith(t, rig.LiveKitOptions{NoAutoCreate: true})
	good := s.Token(t, "@a:b:C", "missing")
	for name, c := range map[string]struct {
		token  string
		status int
	}{
		"a room that is not there": {good, 404},
		"a broken signature":       {good[:len(good)-8] + "AAAAAAAA", 401},
		"no token":                 {"nonsense", 401},
	} {
		_, err := sfu.Connect(t.Context(), sfu.Options{URL: s.URL, Token: c.token, Log: zerolog.Nop()})
		var refused *sfu.RefusedError
		if !errors.As(err, &refused) || refused.Status != c.status {
			t.Errorf("%s: %v, want status %d", name, err, c.status)
			continue
		}
		if strings.Contains(err.Error(), c.token[:min(len(c.token), 20)]) {
			t.Errorf("%s: the error repeats the token: %v", name, err)
		}
	}
	for _, address := range []string{"", "ftp://a", "ws://", "ws://u:p@a/", "ws:opaque", "http://a b"} {
		if _, err := sfu.Connect(t.Context(), sfu.Options{URL: address, Token: good}); err == nil {
			t.Errorf("the address %q is taken", address)
		}
	}
	if _, err := sfu.Connect(t.Context(), sfu.Options{URL: s.URL}); err == nil {
		t.Error("no token is needed")
	}
}

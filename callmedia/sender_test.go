package callmedia

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/e2ee"
	"multifactorymodel.org/ewindow/callmedia/frames"
	"multifactorymodel.org/ewindow/callmedia/track"
	"multifactorymodel.org/ewindow/cmd/e2e/synthetic"
)

// sink is a publication that counts packets.
type sink struct {
	packets, empty int
	clocks         []clock
}

func (s *sink) WriteRTP(p *rtp.Packet) error {
	if s.packets++; len(p.Payload) == 0 {
		s.empty++
	}
	return nil
}

func (s *sink) SetClock(ntp time.Time, timestamp uint32) {
	s.clocks = append(s.clocks, clock{ntp: ntp, timestamp: timestamp})
}

// idle makes a session that has its own key and is not started.
func idle(t *testing.T) (*Session, *synthetic.Page) {
	t.Helper()
	local, err := synthetic.New()
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSession(SessionConfig{Local: local, Service: "s", PictureLimit: 5 * time.Second, Log: zerolog.Nop(), OnEvent: func(SessionEvent) {}, Counters: new(Counters), Token: func(ctx context.Context, _ string) (string, string, error) {
		<-ctx.Done()
		return "", "", ctx.Err()
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	s.UseKey(0, []byte("0123456789abcdef"))
	return s, local
}

// TestSender checks that nothing leaves through a shut gate, and that sending allocates nothing.
func TestSender(t *testing.T) {
	s, local := idle(t)
	out := &sink{}
	key := frames.Frame{Data: append([]byte{0x10, 0, 0, 0x9d, 0x01, 0x2a, 0, 5, 0xd0, 2}, make([]byte, 5000)...), Key: true}
	delta := frames.Frame{Data: append([]byte{0x31, 0, 0}, make([]byte, 5000)...)}
	s.HandleFrame(track.Video, 1, key)
	s.senders[track.Video].publish(out, 1, 96)
	for range 10 {
		s.senders[track.Video].sendEmpty()
	}
	s.HandleFrame(track.Video, 1, key)
	if out.packets != maxEmptyPackets || out.empty != maxEmptyPackets {
		t.Errorf("with the gate shut %d packets left, %d of them empty", out.packets, out.empty)
	}
	// A browser makes a key frame at most every 300 ms. A request while the gate is shut would delay the key frame that is needed when the gate
	// opens.
	s.RequestKeyFrame()
	if local.KeyFrameRequested(track.Video) {
		t.Error("a key frame was asked for with the gate shut")
	}
	s.SetSending(true)
	if !local.KeyFrameRequested(track.Video) || !local.KeyFrameRequested(track.SmallVideo) {
		t.Error("no key frames were asked for when the gate opened")
	}
	s.HandleFrame(track.Video, 1, delta)
	if out.packets != maxEmptyPackets {
		t.Error("a frame left whose references did not")
	}
	s.HandleFrame(track.Video, 1, key)
	if out.packets == maxEmptyPackets {
		t.Error("no frame left")
	}
	s.senders[track.Video].sendEmpty()
	if out.empty != maxEmptyPackets {
		t.Error("an empty packet was sent after the first frame")
	}
	if n := testing.AllocsPerRun(100, func() { s.HandleFrame(track.Video, 1, delta) }); n != 0 {
		t.Errorf("%v allocations a frame, want none", n)
	}
	if got := s.Stats(); got.Gated != 2 || got.WithoutKeyFrame != 1 || got.FramesSent < 100 {
		t.Errorf("counted %+v", got)
	}
}

// TestFirstClock passes the source's clock on with the first frame, since the next sender report may come a second later.
func TestFirstClock(t *testing.T) {
	s, _ := idle(t)
	s.SetSending(true)
	out, now, ntp := &sink{}, time.Unix(1000, 0), time.Unix(500, 0)
	key := frames.Frame{Data: append([]byte{0x10, 0, 0, 0x9d, 0x01, 0x2a, 0, 5, 0xd0, 2}, make([]byte, 50)...), Timestamp: 108000, Key: true}
	video := s.senders[track.Video]
	video.publish(out, 1, 96)
	video.setClock(now, 1, ntp, 90000)
	if len(out.clocks) != 0 {
		t.Error("a clock was passed on before there was a frame")
	}
	video.send(now.Add(200*time.Millisecond), 1, key)
	video.send(now.Add(233*time.Millisecond), 1, key)
	video.setClock(now.Add(time.Second), 1, ntp.Add(time.Second), 180000)
	want := []clock{{ntp: ntp.Add(200 * time.Millisecond), timestamp: 108000}, {ntp: ntp.Add(time.Second), timestamp: 180000}}
	if !slices.Equal(out.clocks, want) {
		t.Errorf("clocks %v, want %v", out.clocks, want)
	}
	// The clock of the first source says nothing about that of the second. As long as the second clock is not known, it is taken from the moment
	// when the frame came.
	again := &sink{}
	video.publish(again, 2, 96)
	video.send(now.Add(2*time.Second), 2, key)
	if len(again.clocks) != 1 || !again.clocks[0].ntp.Equal(now.Add(2*time.Second)) || again.clocks[0].timestamp != video.line.Last() {
		t.Errorf("clocks %v, the frame was at %d", again.clocks, video.line.Last())
	}
}

// viewer is a publication that joins the packets to frames and decrypts them.
type viewer struct {
	t         *testing.T
	assembler *frames.Assembler
	decryptor *e2ee.Decryptor
	shown     []frames.Frame
}

func (v *viewer) WriteRTP(p *rtp.Packet) error {
	now := time.Now()
	v.assembler.Push(now, p.Clone())
	for {
		f, ok := v.assembler.Pop(now)
		if !ok {
			return nil
		}
		data, err := v.decryptor.Decrypt(nil, f.Data)
		if err != nil {
			v.t.Error(err)
		}
		v.shown = append(v.shown, frames.Frame{Data: data, Timestamp: f.Timestamp, Key: f.Key})
	}
}

func (v *viewer) SetClock(time.Time, uint32) {}

// TestFirstKeyFrame sends the key frame that a publication begins with twice: the SFU forwards the first frame of a layer to nobody.
func TestFirstKeyFrame(t *testing.T) {
	s, _ := idle(t)
	s.SetSending(true)
	keys := e2ee.NewKeyRing()
	if err := keys.Set(0, []byte("0123456789abcdef")); err != nil {
		t.Fatal(err)
	}
	frame := func(key bool, at uint32) frames.Frame {
		f := frames.Frame{Data: append([]byte{0x31, 0, 0}, make([]byte, 2000)...), Timestamp: at, Key: key}
		if key {
			f.Data = append([]byte{0x10, 0, 0, 0x9d, 0x01, 0x2a, 0, 5, 0xd0, 2}, make([]byte, 2000)...)
		}
		f.Data[100] = byte(at / 1000)
		return f
	}
	for _, kind := range []track.Kind{track.Video, track.SmallVideo} {
		for name, c := range map[string]struct{ sent, want []frames.Frame }{
			"one":  {[]frames.Frame{frame(true, 3000), frame(false, 6000), frame(false, 9000)}, []frames.Frame{frame(true, 3000), frame(true, 4500), frame(false, 6000), frame(false, 9000)}},
			"two":  {[]frames.Frame{frame(true, 3000), frame(true, 6000), frame(false, 9000)}, []frames.Frame{frame(true, 3000), frame(true, 6000), frame(false, 9000)}},
			"none": {[]frames.Frame{frame(false, 3000), frame(false, 6000)}, nil},
		} {
			v := &viewer{t: t, assembler: frames.NewAssembler(codec.VP8), decryptor: e2ee.NewDecryptor(codec.VP8, keys, nil)}
			s.senders[kind].line = track.NewTimeline(90000)
			s.senders[kind].publish(v, 1, 96) // once more: the first key frame of the publication before is forgotten
			for _, f := range c.sent {
				s.HandleFrame(kind, 1, f)
			}
			if len(v.shown) != len(c.want) {
				t.Errorf("%s: of %q %d frames came, want %d", kind, name, len(v.shown), len(c.want))
				continue
			}
			for i, want := range c.want {
				got := v.shown[i]
				if want.Timestamp == 4500 {
					want.Data = c.sent[0].Data
				}
				if got.Key != want.Key || got.Timestamp != want.Timestamp || !bytes.Equal(got.Data, want.Data) {
					t.Errorf("%s: frame %d of %q is a key frame %v at %d, want %v at %d, or has other data", kind, i, name, got.Key, got.Timestamp, want.Key, want.Timestamp)
				}
			}
		}
	}
}

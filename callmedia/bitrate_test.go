package callmedia

import (
	"cmp"
	"slices"
	"testing"
	"time"
)

// TestEstimate limits the page's encoder to the estimated bandwidth.
func TestEstimate(t *testing.T) {
	s, local := idle(t)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ estimate, want int }{
		{5_000_000, defaultBitrate}, {1_000_000, 925_900}, {1_010_000, 925_900}, {300_000, 267_900}, {1, minBitrate}, {0, minBitrate},
		{1_700_000, 1_583_900}, {1_860_000, defaultBitrate},
	} {
		done := make(chan struct{})
		s.setEstimate(c.estimate)
		s.post(func() { close(done) })
		<-done
		if got, _ := local.Bitrate(); got != c.want {
			t.Errorf("with %d bit/s the page may send %d, want %d", c.estimate, got, c.want)
		}
	}
	if err := s.Start(t.Context()); err == nil {
		t.Error("a session is started twice")
	}
}

// TestLowBandwidth sends only the large picture when the bandwidth is low, unless nobody wants that one.
func TestLowBandwidth(t *testing.T) {
	s, local := idle(t)
	s.remotes = []Remote{{Identity: "phone", Service: "s", Guest: true}}
	for _, c := range []struct {
		estimate         int
		smallOnly        bool
		video, wantSmall int
	}{
		{-1, false, defaultBitrate, smallBitrate}, {2_000_000, false, defaultBitrate, smallBitrate},
		{500_000, false, 305_900, smallBitrate}, {440_000, false, 399_500, 0}, {500_000, false, 455_900, 0}, {600_000, false, 399_900, smallBitrate},
		{200_000, true, 0, smallBitrate}, {200_000, false, 173_900, 0},
	} {
		s.estimate, s.smallOnly = c.estimate, c.smallOnly
		s.limitBitrate()
		if video, small := local.Bitrate(); video != c.video || small != c.wantSmall {
			t.Errorf("with %d bit/s, small only %v, the page may send %d and %d, want %d and %d", c.estimate, c.smallOnly, video, small, c.video, c.wantSmall)
		}
	}
}

// TestAsks limits the picture to what windows ask for. Guests and strangers can't ask, and one poor line does not make the picture poor for all.
func TestAsks(t *testing.T) {
	s, local := idle(t)
	now := time.Now()
	s.remotes = []Remote{{Identity: "window", Service: "s"}}
	for _, c := range []struct {
		what             string
		identity         string
		bps              int
		remotes          []Remote
		video, wantSmall int
	}{
		{"nobody asks", "", 0, s.remotes, defaultBitrate, 0},
		{"a window asks", "window", 515_000, s.remotes, 470_000, 0},
		{"a stranger asks", "stranger", 100_000, s.remotes, 470_000, 0},
		{"a guest asks", "guest", 100_000, []Remote{s.remotes[0], {Identity: "guest", Service: "s", Guest: true}}, defaultBitrate, smallBitrate},
		{"the guest has left", "", 0, s.remotes, 470_000, 0},
		{"a second window comes", "", 0, []Remote{s.remotes[0], {Identity: "other", Service: "s"}}, defaultBitrate, smallBitrate},
		{"it asks for more", "other", 1_215_000, []Remote{s.remotes[0], {Identity: "other", Service: "s"}}, 978_000, smallBitrate},
		{"it has left", "", 0, s.remotes, 470_000, 0},
		{"next to nothing", "window", 1, s.remotes, minBitrate, 0},
	} {
		s.remotes = c.remotes
		if c.identity != "" {
			s.takeAsk(c.identity, c.bps, false, 0, now)
		}
		s.limitBitrate()
		if video, small := local.Bitrate(); video != c.video || small != c.wantSmall {
			t.Errorf("%s: the page may send %d and %d, want %d and %d", c.what, video, small, c.video, c.wantSmall)
		}
	}
	s.takeAsk("window", 515_000, false, 0, now.Add(-askTime-time.Second))
	if s.limitBitrate(); s.bitrate != defaultBitrate {
		t.Errorf("who asks no more still limits the picture to %d", s.bitrate)
	}
}

// TestLine begins with what the session before found out.
func TestLine(t *testing.T) {
	var line Line
	now := time.Now()
	if up, down := line.known(now); up != 0 || down != 0 {
		t.Errorf("a new line carries %d and %d", up, down)
	}
	if line.avoidUDP(now) {
		t.Error("a new line avoids UDP")
	}
	line.note(now, 300_000, 900_000)
	if up, down := line.known(now.Add(lineMemory)); up != 300_000 || down != 900_000 {
		t.Errorf("the line carries %d and %d", up, down)
	}
	if up, down := line.known(now.Add(lineMemory + time.Second)); up != 0 || down != 0 {
		t.Errorf("what is old counts: %d and %d", up, down)
	}
	for _, c := range []struct {
		works bool
		later time.Duration
		avoid bool
	}{{false, 0, true}, {false, udpMemory - time.Second, true}, {false, udpMemory, false}, {true, 0, false}} {
		if line.setUDP(now, c.works); line.avoidUDP(now.Add(c.later)) != c.avoid {
			t.Errorf("UDP works %v: %v later it is avoided: %v", c.works, c.later, !c.avoid)
		}
	}
}

// TestSlow says where the line is slow, once it has been so for some time. It does not change its mind each second.
func TestSlow(t *testing.T) {
	s, _ := idle(t)
	var told []Slow
	s.cfg.OnEvent = func(e SessionEvent) {
		if e.Kind == LineChanged {
			told = append(told, e.Slow)
		}
	}
	now := time.Now()
	s.remotes = []Remote{{Identity: "window", Service: "s"}}
	for _, c := range []struct {
		what     string
		seconds  int
		up, down int // bit/s; 0: a good line
		theirs   bool
		want     []Slow
	}{
		{what: "a good line", seconds: 20},
		{what: "a short fall", seconds: 4, up: 300_000},
		{what: "a good line again", seconds: 3},
		{what: "slow up", seconds: 10, up: 300_000, want: []Slow{SlowHere}},
		{what: "a little better", seconds: 10, up: 800_000, want: []Slow{SlowHere}},
		{what: "good", seconds: 10, want: []Slow{SlowHere, NotSlow}},
		{what: "slow there", seconds: 10, theirs: true, down: 300_000, want: []Slow{SlowHere, NotSlow, SlowThere}},
		{what: "slow down", seconds: 10, down: 300_000, want: []Slow{SlowHere, NotSlow, SlowThere, SlowHere}},
		{what: "slow up, and there, too", seconds: 10, up: 300_000, theirs: true, want: []Slow{SlowHere, NotSlow, SlowThere, SlowHere}},
	} {
		for range c.seconds {
			now = now.Add(time.Second)
			s.asks["window"], s.told["window"] = ask{none, c.theirs, 0, now}, ask{c.down, false, 0, now}
			s.narrow, s.estimate = c.up > 0, cmp.Or(c.up, 3_000_000)
			s.checkSlow(now)
		}
		if !slices.Equal(told, c.want) {
			t.Errorf("%s: %v, want %v", c.what, told, c.want)
		}
	}
}

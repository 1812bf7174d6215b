package callmedia

import (
	"testing"
)

// TestEstimate limits the page's encoder to the estimated bandwidth.
func TestEstimate(t *testing.T) {
	s, local := idle(t)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ estimate, want int }{
		{5_000_000, defaultBitrate}, {1_000_000, 952_000}, {1_010_000, 952_000}, {300_000, 252_000}, {1, minBitrate}, {0, minBitrate},
		{1_700_000, 1_652_000}, {1_760_000, defaultBitrate},
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
		{500_000, false, 302_000, smallBitrate}, {440_000, false, 392_000, 0}, {500_000, false, 452_000, 0}, {600_000, false, 402_000, smallBitrate},
		{200_000, true, 0, smallBitrate}, {200_000, false, 152_000, 0},
	} {
		s.estimate, s.smallOnly = c.estimate, c.smallOnly
		s.limitBitrate()
		if video, small := local.Bitrate(); video != c.video || small != c.wantSmall {
			t.Errorf("with %d bit/s, small only %v, the page may send %d and %d, want %d and %d", c.estimate, c.smallOnly, video, small, c.video, c.wantSmall)
		}
	}
}

package callmedia

import (
	"testing"
	"time"
)

// hear lets packets of a participant's sound come, and others get lost.
func (p *participant) hear(packets, lost uint64) {
	p.audio.packets.Add(packets)
	p.audio.lost.Add(lost)
}

// TestSoundLost: the loss of a participant's sound is that of the last two seconds. A new track begins anew, and a few packets say nothing.
func TestSoundLost(t *testing.T) {
	now := time.Now()
	p := &participant{audio: &receiver{}}
	want := func(after time.Duration, percent int) {
		t.Helper()
		now = now.Add(after)
		if got := p.soundLost(now); got != percent {
			t.Errorf("%d %% are lost, want %d", got, percent)
		}
	}
	p.hear(1000, 500) // in an earlier visit
	want(0, 0)
	p.hear(90, 10)
	want(lossPeriod-1, 0)
	want(1, 10)
	p.hear(45, 45)
	want(lossPeriod-1, 10)
	want(1, 50)
	p.hear(fewPackets-2, 1)
	want(lossPeriod, 0)
	p.audio = &receiver{}
	p.hear(0, 100)
	want(lossPeriod, 0)
	p.hear(0, 100)
	want(lossPeriod, 100)
	p.audio = nil
	want(lossPeriod, 0)
	if got := (*participant)(nil).soundLost(now); got != 0 {
		t.Error("nobody's sound is lost")
	}
}

// lossy takes note of the loss that it is told of.
type lossy struct {
	Local
	told []float64
}

func (l *lossy) SetLoss(sound float64) { l.told = append(l.told, sound) }

// TestReportLoss: what counts is the window that misses most of our sound, while it is shown, and while it says so.
func TestReportLoss(t *testing.T) {
	local, now := &lossy{}, time.Now()
	s := &Session{cfg: SessionConfig{Local: local, Service: "s"}, asks: make(map[string]ask), remotes: []Remote{{Identity: "a"}, {Identity: "b"}}}
	for _, step := range []struct {
		identity string
		lost     int
		want     float64
	}{{"a", 0, 0}, {"a", 4, 0.04}, {"b", 10, 0.1}, {"a", 20, 0.2}, {"c", 50, 0.2}, {"a", 0, 0.1}} {
		s.asks[step.identity] = ask{lost: step.lost, at: now}
		s.reportLoss(now)
		if s.loss != step.want {
			t.Errorf("after %+v our end was told %v", step, s.loss)
		}
	}
	s.reportLoss(now.Add(askTime + 1))
	if want := []float64{0.04, 0.1, 0.2, 0.1, 0}; len(local.told) != len(want) || s.loss != 0 {
		t.Errorf("our end was told %v, want %v", local.told, want)
	}
}

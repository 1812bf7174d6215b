package callmedia

import "time"

// timeline turns the RTP timestamps of changing sources into one steady clock: within a source they are shifted by a constant,
// and a new source goes on where the last one would stand now. It belongs to one goroutine or is guarded by its user.
type timeline struct {
	rate   uint32 // Hz
	source Source
	begun  bool
	offset uint32
	last   uint32 // as sent
	at     time.Time
}

// shift returns the timestamp to send for one of source.
func (l *timeline) shift(now time.Time, source Source, timestamp uint32) uint32 {
	if !l.begun || source != l.source {
		next := timestamp
		if l.begun {
			// One tick more: two sources that follow at once must not share a timestamp.
			next = l.last + 1 + uint32(now.Sub(l.at).Seconds()*float64(l.rate))
		}
		l.offset = next - timestamp
		l.source, l.begun = source, true
	}
	l.last, l.at = timestamp+l.offset, now
	return l.last
}

// shifted returns the timestamp that shift would give, if source is the present one.
func (l *timeline) shifted(source Source, timestamp uint32) (uint32, bool) {
	return timestamp + l.offset, l.begun && source == l.source
}

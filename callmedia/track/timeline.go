package track

import "time"

// Timeline turns the RTP timestamps of changing sources into one steady clock. Within a source they are shifted by a constant. A new source goes
// on where the steady clock is by now. A Timeline belongs to one goroutine, or its user has a lock.
type Timeline struct {
	rate   uint32 // Hz
	source Source
	begun  bool
	offset uint32
	last   uint32 // as returned by Shift
	at     time.Time
}

// NewTimeline returns a timeline with an RTP clock rate in Hz.
func NewTimeline(rate uint32) Timeline { return Timeline{rate: rate} }

// Rate is the clock rate in Hz.
func (l *Timeline) Rate() uint32 { return l.rate }

// Source is that of the last timestamp.
func (l *Timeline) Source() Source { return l.source }

// Last is what Shift returned last.
func (l *Timeline) Last() uint32 { return l.last }

// Shift returns the timestamp to send for a timestamp of source.
func (l *Timeline) Shift(now time.Time, source Source, timestamp uint32) uint32 {
	if !l.begun || source != l.source {
		next := timestamp
		if l.begun {
			// One tick more: two sources that follow each other at once must not share a timestamp.
			next = l.last + 1 + uint32(now.Sub(l.at).Seconds()*float64(l.rate))
		}
		l.offset = next - timestamp
		l.source, l.begun = source, true
	}
	l.last, l.at = timestamp+l.offset, now
	return l.last
}

// Shifted returns what Shift would return, but does not record it as sent. It returns false when source is not the present source.
func (l *Timeline) Shifted(source Source, timestamp uint32) (uint32, bool) {
	return timestamp + l.offset, l.begun && source == l.source
}

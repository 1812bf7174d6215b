package callmedia

import (
	"time"

	"multifactorymodel.org/ewindow/callmedia/sfu"
)

// Sizes of pictures in pixels: those that we send, and those that the SFU is asked for.
var (
	sizeScreen = size{Width: 1920, Height: 1080}
	sizeLarge  = size{Width: 1280, Height: 720}
	sizeSmall  = size{Width: 320, Height: 180}
)

// size is how large a picture is shown; zero for not at all.
type size = sfu.Size

// idleLimit is how long the SFU goes on sending a track that is not shown. A new participant publishes before we know who it is.
const idleLimit = 5 * time.Second

// maxIdleRequests is how many tracks the SFU is asked at once to send no longer. A crowd's tracks become idle at the same moment, and each one
// takes a message of its own. More messages than the connection takes at once would end it.
const maxIdleRequests = 16

// requestSizes tells the SFUs how large each track is shown. They send the simulcast layer that fits, and nothing of a track that is not
// shown.
func (s *Session) requestSizes(now time.Time) {
	sizes := make(map[*receiver]size)
	next := sizeLarge // of the next picture in the order of s.remotes: only the first one is shown large
	for _, p := range s.participants {
		if p.screen != nil {
			sizes[p.screen] = sizeScreen
			next = sizeSmall
		}
	}
	for _, r := range s.remotes {
		p := s.participants[r.Identity]
		if p == nil {
			continue
		}
		if p.audio != nil {
			sizes[p.audio] = sizeLarge // sound has no size, but without one the SFU would not send it
		}
		if p.video == nil {
			continue
		}
		sizes[p.video] = next
		if p.announced {
			next = sizeSmall
		}
	}
	for _, c := range s.connections {
		idle := 0
		for _, r := range c.receivers {
			want := sizes[r]
			if want == r.size {
				continue
			}
			if want == (size{}) {
				if now.Sub(r.idleSince) < idleLimit || idle == maxIdleRequests {
					continue
				}
				idle++
			}
			r.size = want
			r.setSize(want)
		}
	}
}

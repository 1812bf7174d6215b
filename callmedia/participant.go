package callmedia

import (
	"time"

	"multifactorymodel.org/ewindow/callmedia/e2ee"
)

// maxParticipants limits the participants whose keys are kept. It is more than a call has members, because a key that is dropped here does not
// come again.
const maxParticipants = 128

// participant is what is known of one other participant. It belongs to the goroutine of Session.run.
type participant struct {
	identity  string
	keys      *e2ee.KeyRing
	service   string // where it publishes; empty while it is not to be shown
	tile      int    // -1 while it is not shown
	audio     *receiver
	video     *receiver
	announced bool      // RemoteUp was emitted
	muted     bool      // as last emitted
	unshown   bool      // CodecUnknown was emitted
	away      bool      // RemoteAway was emitted
	picture   bool      // PictureOn was emitted
	missing   time.Time // since when the announced picture has not come; zero while it comes, or is muted
	reported  bool      // the log says that the picture does not come

	heard heard // how much of its sound comes

	screen     *receiver
	screenTile int  // -1 while its screen is not shown
	sharing    bool // ScreenOn was emitted
}

// participant finds or makes the record of an identity. It is nil when there are too many.
func (s *Session) participant(identity string) *participant {
	p := s.participants[identity]
	if p != nil {
		return p
	}
	if len(s.participants) >= maxParticipants {
		for name, old := range s.participants { // one that is not shown, and whose key we only keep, makes room
			if old.service == "" && old.audio == nil && old.video == nil {
				delete(s.participants, name)
				break
			}
		}
		if len(s.participants) >= maxParticipants {
			return nil
		}
	}
	p = &participant{identity: identity, keys: e2ee.NewKeyRing(), tile: -1, screenTile: -1}
	s.participants[identity] = p
	return p
}

package callmedia

import (
	"time"

	"github.com/livekit/protocol/livekit"

	"multifactorymodel.org/ewindow/callmedia/track"
)

// assignTiles decides which participant is shown in which tile with which tracks, and which SFUs are needed. Session.run calls it after every
// change.
func (s *Session) assignTiles() {
	tiles := s.cfg.Local.Tiles()
	sharer := s.sharer(tiles)
	people := tiles
	if sharer != nil {
		people-- // the screen has a tile of its own
	}
	wanted := make(map[string]Remote, len(s.remotes))
	services := map[string]bool{s.cfg.Service: true}
	for _, r := range s.remotes {
		if r.Identity == "" || r.Service == "" {
			continue
		}
		if _, twice := wanted[r.Identity]; !twice && len(wanted) < people {
			wanted[r.Identity] = r
			services[r.Service] = true
		}
	}
	for service, c := range s.connections {
		if !services[service] {
			c.drop()
			delete(s.connections, service)
		}
	}
	for service := range services {
		if s.connections[service] == nil {
			s.connect(service)
		}
	}
	for identity, p := range s.participants {
		if _, ok := wanted[identity]; !ok {
			s.hide(p)
		}
		if p != sharer {
			s.hideScreen(p)
		}
	}
	for _, r := range s.remotes {
		if wanted[r.Identity] != r {
			continue
		}
		p := s.participant(r.Identity)
		if p == nil {
			continue
		}
		if p.service != r.Service {
			s.hide(p)
			p.service = r.Service
		}
		if p.tile < 0 {
			p.tile = s.freeTile(tiles)
		}
		s.show(p, r.Hushed)
	}
	if sharer != nil {
		if sharer.screenTile < 0 {
			sharer.screenTile = s.freeTile(tiles)
		}
		if sharer.screenTile >= 0 {
			s.attach(&sharer.screen, s.find(sharer, livekit.TrackSource_SCREEN_SHARE), sharer, sharer.screenTile)
		}
	}
	s.requestSizes(time.Now())
}

// sharer returns the first of the participants to be shown who shares a screen, nil if nobody does.
func (s *Session) sharer(tiles int) *participant {
	for i, r := range s.remotes {
		p := s.participants[r.Identity]
		if i >= tiles-1 || p == nil || p.service != r.Service && p.service != "" {
			continue
		}
		if c := s.connections[r.Service]; c != nil && c.find(r.Identity, livekit.TrackSource_SCREEN_SHARE) != nil {
			return p
		}
	}
	return nil
}

// freeTile returns the lowest tile that nobody has, or -1.
func (s *Session) freeTile(tiles int) int {
	for tile := range tiles {
		taken := false
		for _, p := range s.participants {
			taken = taken || p.tile == tile || p.screenTile == tile
		}
		if !taken {
			return tile
		}
	}
	return -1
}

// hide removes a participant from the page.
func (s *Session) hide(p *participant) {
	s.hideScreen(p)
	s.attach(&p.audio, nil, p, p.tile)
	s.attach(&p.video, nil, p, p.tile)
	p.service = ""
	s.emitChanges(p)
	p.tile = -1
}

// hideScreen removes a participant's screen from the page.
func (s *Session) hideScreen(p *participant) {
	s.attach(&p.screen, nil, p, p.screenTile)
	if p.sharing {
		p.sharing = false
		s.cfg.OnEvent(SessionEvent{Kind: ScreenOff, Identity: p.identity, Tile: p.screenTile})
	}
	p.screenTile = -1
}

// show connects a participant's tracks, as they are now, to its tile. Nobody hears one who is hushed.
func (s *Session) show(p *participant, hushed bool) {
	sound := s.find(p, livekit.TrackSource_MICROPHONE)
	if hushed {
		sound = nil
	}
	s.attach(&p.audio, sound, p, p.tile)
	s.attach(&p.video, s.find(p, livekit.TrackSource_CAMERA), p, p.tile)
	s.emitChanges(p)
}

// find returns the track that a participant sends from a source, nil when there is none or it must not be shown.
func (s *Session) find(p *participant, source livekit.TrackSource) *receiver {
	if c := s.connections[p.service]; c != nil && p.tile >= 0 {
		return c.find(p.identity, source)
	}
	return nil
}

// attach shows want as a participant's track in a tile, instead of *have. Either may be nil.
func (s *Session) attach(have **receiver, want *receiver, p *participant, tile int) {
	if *have == want {
		return
	}
	if old := *have; old != nil {
		old.showing.Store(nil)
		old.idleSince = time.Now()
		if old.kind == track.Video {
			s.pictureWanted[tile].CompareAndSwap(old, nil)
		}
	}
	*have = want
	if want == nil {
		return
	}
	want.showing.Store(&showing{tile: tile, decryptor: want.newDecryptor(p.keys)})
	if want.kind == track.Video {
		s.pictureWanted[tile].Store(want)
		want.askKeyFrame()
	}
}

// passClocks tells the page the senders' clocks.
func (s *Session) passClocks() {
	for _, p := range s.participants {
		for _, r := range []*receiver{p.audio, p.video, p.screen} {
			if r == nil {
				continue
			}
			if ntp, timestamp, ok := r.clock(); ok {
				s.cfg.Local.SetClock(r.showing.Load().tile, r.kind, r.source, ntp, timestamp)
			}
		}
	}
}

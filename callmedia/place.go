package callmedia

import (
	"time"
)

// place decides, after any change, which participant is shown in which slot by which tracks, and which SFUs are needed. The owner
// calls it.
func (s *Session) place() {
	slots := s.cfg.Local.Slots()
	wanted := make(map[string]Remote, len(s.remotes))
	services := map[string]bool{s.cfg.Service: true}
	for _, r := range s.remotes {
		if r.Identity == "" || r.Service == "" {
			continue
		}
		if _, twice := wanted[r.Identity]; !twice && len(wanted) < slots {
			wanted[r.Identity] = r
			services[r.Service] = true
		}
	}
	for service, l := range s.links {
		if !services[service] {
			l.drop()
			delete(s.links, service)
		}
	}
	for service := range services {
		if s.links[service] == nil {
			s.addLink(service)
		}
	}
	for identity, p := range s.peers {
		if _, ok := wanted[identity]; !ok {
			s.unshow(p)
		}
	}
	for _, r := range s.remotes {
		if wanted[r.Identity] != r {
			continue
		}
		p := s.peer(r.Identity)
		if p == nil {
			continue
		}
		if p.service != r.Service {
			s.unshow(p)
			p.service = r.Service
		}
		if p.slot < 0 {
			p.slot = s.freeSlot(slots)
		}
		s.show(p)
	}
}

// freeSlot returns the lowest slot that nobody has, or -1.
func (s *Session) freeSlot(slots int) int {
	for slot := range slots {
		taken := false
		for _, p := range s.peers {
			taken = taken || p.slot == slot
		}
		if !taken {
			return slot
		}
	}
	return -1
}

// unshow takes a participant off the page.
func (s *Session) unshow(p *peer) {
	s.attach(&p.audio, nil, p)
	s.attach(&p.video, nil, p)
	p.service = ""
	s.announce(p)
	p.slot = -1
}

// show connects a participant's tracks, as they are now, to its slot.
func (s *Session) show(p *peer) {
	var audio, video *receiver
	if l := s.links[p.service]; l != nil && p.slot >= 0 {
		for _, r := range l.receivers {
			// Other identities of the same SFU, and what is not encrypted, never get here. Of two tracks of a kind the later one counts.
			if r.identity != p.identity || !r.playable {
				continue
			}
			if r.kind == Audio && (audio == nil || r.source > audio.source) {
				audio = r
			}
			if r.kind == Video && (video == nil || r.source > video.source) {
				video = r
			}
		}
	}
	s.attach(&p.audio, audio, p)
	s.attach(&p.video, video, p)
	s.announce(p)
}

// attach makes a track the one that is shown for a participant, instead of another or of none.
func (s *Session) attach(have **receiver, want *receiver, p *peer) {
	if *have == want {
		return
	}
	if old := *have; old != nil {
		old.target.Store(nil)
		if old.kind == Video {
			s.pictureWanted[p.slot].CompareAndSwap(old, nil)
		}
	}
	*have = want
	if want == nil {
		return
	}
	want.target.Store(&target{slot: p.slot, decryptor: want.newDecryptor(p.keys)})
	if want.kind == Video {
		s.pictureWanted[p.slot].Store(want)
		want.askKeyFrame()
	}
}

// announce says what has changed about a participant's picture.
func (s *Session) announce(p *peer) {
	event := func(kind EventKind, muted bool) {
		s.cfg.OnEvent(SessionEvent{Kind: kind, Identity: p.identity, Slot: p.slot, Muted: muted})
	}
	up, muted := s.cameraOf(p)
	if p.picture && p.video == nil {
		p.picture = false
		event(PictureOff, false)
	}
	switch {
	case up && !p.announced:
		event(RemoteUp, muted)
	case up && muted != p.muted:
		event(RemoteMuted, muted)
	case !up && p.announced:
		event(RemoteGone, false)
	}
	p.announced, p.muted = up, muted
}

// cameraOf says whether a participant that is shown announces a picture, and whether that is held back.
func (s *Session) cameraOf(p *peer) (up, muted bool) {
	l := s.links[p.service]
	if l == nil || p.slot < 0 {
		return false, false
	}
	muted = true
	for _, c := range l.cameras {
		if c.identity == p.identity {
			up, muted = true, muted && c.muted
		}
	}
	return up, up && muted
}

// pictureSeen is called when a receiver has shown its first picture as t.
func (s *Session) pictureSeen(r *receiver, t *target) {
	p := s.peers[r.identity]
	if p == nil || p.video != r || r.target.Load() != t || p.picture {
		return
	}
	p.picture = true
	s.cfg.OnEvent(SessionEvent{Kind: PictureOn, Identity: p.identity, Slot: p.slot})
}

// checkPictures finds pictures that have stood still for too long.
func (s *Session) checkPictures(now time.Time) {
	for _, p := range s.peers {
		if !p.picture || p.video == nil || now.Sub(time.Unix(0, p.video.seenAt.Load())) < pictureLimit {
			continue
		}
		p.picture = false
		p.video.target.Load().pictured.Store(false)
		s.cfg.OnEvent(SessionEvent{Kind: PictureOff, Identity: p.identity, Slot: p.slot})
		p.video.askKeyFrame()
	}
}

// passClocks tells the page the senders' clocks.
func (s *Session) passClocks() {
	for _, p := range s.peers {
		for _, r := range []*receiver{p.audio, p.video} {
			if r == nil {
				continue
			}
			if ntp, timestamp, ok := r.clock(); ok {
				s.cfg.Local.SetClock(p.slot, r.kind, r.source, ntp, timestamp)
			}
		}
	}
}

// newSource returns a number for a new clock.
func (s *Session) newSource() Source {
	s.lastSource++
	return s.lastSource
}

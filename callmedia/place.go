package callmedia

import (
	"time"

	"github.com/livekit/protocol/livekit"

	"multifactorymodel.org/ewindow/callmedia/sfu"
)

// Sizes in pixels that are sent, and that the SFU is asked for.
var (
	sizeScreen = size{Width: 1920, Height: 1080}
	sizeMain   = size{Width: 1280, Height: 720}
	sizeStrip  = size{Width: 320, Height: 180}
)

// size is how large a picture is shown; zero for not at all.
type size = sfu.Size

// idleLimit is how long the SFU goes on sending a track that is not shown. Who has just come publishes before it is known who that is.
const idleLimit = 5 * time.Second

// place decides, after any change, which participant is shown in which slot by which tracks, and which SFUs are needed. The owner
// calls it.
func (s *Session) place() {
	slots := s.cfg.Local.Slots()
	sharer := s.sharer(slots)
	people := slots
	if sharer != nil {
		people-- // the screen has a slot of its own
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
		if p != sharer {
			s.unshowScreen(p)
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
	if sharer != nil {
		if sharer.screenSlot < 0 {
			sharer.screenSlot = s.freeSlot(slots)
		}
		if sharer.screenSlot >= 0 {
			s.attach(&sharer.screen, s.track(sharer, livekit.TrackSource_SCREEN_SHARE), sharer, sharer.screenSlot)
		}
	}
	s.resize(time.Now())
}

// sharer is the first of those to be shown who shares a screen, nil for nobody. There is one at most.
func (s *Session) sharer(slots int) *peer {
	for i, r := range s.remotes {
		p := s.peers[r.Identity]
		if i >= slots-1 || p == nil || p.service != r.Service && p.service != "" {
			continue
		}
		if l := s.links[r.Service]; l != nil && l.find(r.Identity, livekit.TrackSource_SCREEN_SHARE) != nil {
			return p
		}
	}
	return nil
}

// freeSlot returns the lowest slot that nobody has, or -1.
func (s *Session) freeSlot(slots int) int {
	for slot := range slots {
		taken := false
		for _, p := range s.peers {
			taken = taken || p.slot == slot || p.screenSlot == slot
		}
		if !taken {
			return slot
		}
	}
	return -1
}

// unshow takes a participant off the page.
func (s *Session) unshow(p *peer) {
	s.unshowScreen(p)
	s.attach(&p.audio, nil, p, p.slot)
	s.attach(&p.video, nil, p, p.slot)
	p.service = ""
	s.announce(p)
	p.slot = -1
}

// unshowScreen takes a participant's screen off the page.
func (s *Session) unshowScreen(p *peer) {
	s.attach(&p.screen, nil, p, p.screenSlot)
	if p.sharing {
		p.sharing = false
		s.cfg.OnEvent(SessionEvent{Kind: ScreenOff, Identity: p.identity, Slot: p.screenSlot})
	}
	p.screenSlot = -1
}

// show connects a participant's tracks, as they are now, to its slot.
func (s *Session) show(p *peer) {
	s.attach(&p.audio, s.track(p, livekit.TrackSource_MICROPHONE), p, p.slot)
	s.attach(&p.video, s.track(p, livekit.TrackSource_CAMERA), p, p.slot)
	s.announce(p)
}

// track is what a participant sends from a source, nil for nothing that may be shown.
func (s *Session) track(p *peer, source livekit.TrackSource) *receiver {
	if l := s.links[p.service]; l != nil && p.slot >= 0 {
		return l.find(p.identity, source)
	}
	return nil
}

// attach makes a track the one that is shown for a participant in a slot, instead of another or of none.
func (s *Session) attach(have **receiver, want *receiver, p *peer, slot int) {
	if *have == want {
		return
	}
	if old := *have; old != nil {
		old.target.Store(nil)
		old.idleSince = time.Now()
		if old.kind == Video {
			s.pictureWanted[slot].CompareAndSwap(old, nil)
		}
	}
	*have = want
	if want == nil {
		return
	}
	want.target.Store(&target{slot: slot, decryptor: want.newDecryptor(p.keys)})
	if want.kind == Video {
		s.pictureWanted[slot].Store(want)
		want.askKeyFrame()
	}
}

// resize tells the SFUs how large each track is shown, so that they send the layer that fits, and nothing that is not shown.
func (s *Session) resize(now time.Time) {
	sizes := make(map[*receiver]size)
	main := sizeMain
	for _, p := range s.peers {
		if p.screen != nil {
			sizes[p.screen] = sizeScreen
			main = sizeStrip
		}
	}
	for _, r := range s.remotes {
		p := s.peers[r.Identity]
		if p == nil {
			continue
		}
		if p.audio != nil {
			sizes[p.audio] = sizeMain // sound has no size, but is wanted
		}
		if p.video == nil {
			continue
		}
		sizes[p.video] = main
		if p.announced {
			main = sizeStrip
		}
	}
	for _, l := range s.links {
		for _, r := range l.receivers {
			want := sizes[r]
			if want == r.size || want == (size{}) && now.Sub(r.idleSince) < idleLimit {
				continue
			}
			r.size = want
			r.resize(want)
		}
	}
}

// announce says what has changed about a participant and its picture.
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
	if p.service == "" {
		p.away = false // nobody asks any more
		return
	}
	l := s.links[p.service]
	if away := l != nil && l.room != nil && !l.present[p.identity]; away != p.away {
		p.away = away
		if away {
			event(RemoteAway, false)
		} else {
			event(RemoteBack, false)
		}
	}
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
	switch {
	case p == nil, r.target.Load() != t:
	case p.video == r && !p.picture:
		p.picture = true
		s.cfg.OnEvent(SessionEvent{Kind: PictureOn, Identity: p.identity, Slot: p.slot})
	case p.screen == r && !p.sharing:
		p.sharing = true
		s.cfg.OnEvent(SessionEvent{Kind: ScreenOn, Identity: p.identity, Slot: p.screenSlot})
	}
}

// checkPictures finds pictures that have stood still for too long.
func (s *Session) checkPictures(now time.Time) {
	for _, p := range s.peers {
		s.miss(now, p)
		if !p.picture || p.video == nil || now.Sub(time.Unix(0, p.video.seenAt.Load())) < s.cfg.PictureLimit {
			continue
		}
		p.picture = false
		p.video.target.Load().pictured.Store(false)
		s.cfg.OnEvent(SessionEvent{Kind: PictureOff, Identity: p.identity, Slot: p.slot})
		p.video.askKeyFrame()
	}
}

// miss writes into the log, once, why the picture of somebody who announces one does not come: what is known of it, and what we send
// ourselves, since neither window sends on while it does not see the other.
func (s *Session) miss(now time.Time, p *peer) {
	up, muted := s.cameraOf(p)
	switch {
	case !up || muted || p.picture:
		p.missed, p.missLog = time.Time{}, false
	case p.missed.IsZero():
		p.missed = now
	case !p.missLog && now.Sub(p.missed) >= s.cfg.PictureLimit:
		p.missLog = true
		c := &s.stats
		e := s.cfg.Log.Info().Str("identity", p.identity).Bool("track", p.video != nil)
		if p.video != nil {
			e.Str("track_id", p.video.trackSID).Uint64("packets", p.video.packets.Load())
		}
		e.Uint64("no_key", c.noKey.Load()).Uint64("undecryptable", c.undecryptable.Load()).Uint64("key_frames_asked", c.keyFramesAsked.Load()).
			Uint64("sent", c.framesSent.Load()).Uint64("gated", c.gated.Load()).Uint64("unpublished", c.unpublished.Load()).
			Uint64("without_key_frame", c.withoutKeyFrame.Load()).Uint64("no_own_key", c.noOwnKey.Load()).
			Msg("A picture that was announced does not come")
	}
}

// passClocks tells the page the senders' clocks.
func (s *Session) passClocks() {
	for _, p := range s.peers {
		for _, r := range []*receiver{p.audio, p.video, p.screen} {
			if r == nil {
				continue
			}
			if ntp, timestamp, ok := r.clock(); ok {
				s.cfg.Local.SetClock(r.target.Load().slot, r.kind, r.source, ntp, timestamp)
			}
		}
	}
}

// newSource returns a number for a new clock.
func (s *Session) newSource() Source {
	s.lastSource++
	return s.lastSource
}

package callmedia

import (
	"slices"
	"time"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

// emitChanges emits what has changed about a participant and its picture.
func (s *Session) emitChanges(p *participant) {
	emit := func(kind EventKind, muted bool) {
		s.cfg.OnEvent(SessionEvent{Kind: kind, Identity: p.identity, Tile: p.tile, Muted: muted})
	}
	up, muted := s.announced(p)
	if p.picture && p.video == nil {
		p.picture = false
		emit(PictureOff, false)
	}
	if mimeType, unshown := s.unshown(p); unshown != p.unshown {
		p.unshown = unshown
		if unshown {
			s.cfg.Log.Warn().Str("identity", p.identity).Str("codec", mimeType).Msg("A picture is in a codec that can't be shown")
			emit(CodecUnknown, false)
		} else {
			emit(CodecKnown, false)
		}
	}
	switch {
	case up && !p.announced:
		emit(RemoteUp, muted)
	case up && muted != p.muted:
		emit(RemoteMuted, muted)
	case !up && p.announced:
		emit(RemoteGone, false)
	}
	p.announced, p.muted = up, muted
	if p.service == "" {
		p.away = false // nobody asks any more
		return
	}
	c := s.connections[p.service]
	if away := c != nil && c.room != nil && !c.present[p.identity]; away != p.away {
		p.away = away
		if away {
			emit(RemoteAway, false)
		} else {
			emit(RemoteBack, false)
		}
	}
}

// announced says whether a participant that is shown announces a picture, and whether that picture is muted.
func (s *Session) announced(p *participant) (up, muted bool) {
	c := s.connections[p.service]
	if c == nil || p.tile < 0 {
		return false, false
	}
	muted = true
	for _, camera := range c.cameras {
		if camera.identity == p.identity {
			up, muted = true, muted && camera.muted
		}
	}
	return up, up && muted
}

// unshown says whether a participant that is shown announces a picture in a codec that can't be shown, and no other.
func (s *Session) unshown(p *participant) (mimeType string, unshown bool) {
	c := s.connections[p.service]
	if c == nil || p.tile < 0 || p.video != nil {
		return "", false
	}
	for _, camera := range c.cameras {
		if camera.identity != p.identity {
			continue
		}
		if camera.mimeType == "" || s.shows(codec.Find(camera.mimeType)) {
			return "", false
		}
		mimeType = camera.mimeType
	}
	return mimeType, mimeType != ""
}

// shows says whether pictures in a codec can be shown.
func (s *Session) shows(c codec.Codec) bool {
	return slices.Contains(codec.Pictures(), c) && s.cfg.Local.Shows(c)
}

// pictureSeen notes that a receiver has handed on its first picture of the showing w.
func (s *Session) pictureSeen(r *receiver, w *showing) {
	p := s.participants[r.identity]
	switch {
	case p == nil, r.showing.Load() != w:
	case p.video == r && !p.picture:
		p.picture = true
		s.cfg.OnEvent(SessionEvent{Kind: PictureOn, Identity: p.identity, Tile: p.tile})
	case p.screen == r && !p.sharing:
		p.sharing = true
		s.cfg.OnEvent(SessionEvent{Kind: ScreenOn, Identity: p.identity, Tile: p.screenTile})
	}
}

// checkPictures finds pictures that stand still for too long.
func (s *Session) checkPictures(now time.Time) {
	for _, p := range s.participants {
		s.reportMissing(now, p)
		if !p.picture || p.video == nil || now.Sub(time.Unix(0, p.video.seenAt.Load())) < s.cfg.PictureLimit {
			continue
		}
		p.picture = false
		p.video.showing.Load().pictured.Store(false)
		s.cfg.OnEvent(SessionEvent{Kind: PictureOff, Identity: p.identity, Tile: p.tile})
		p.video.askKeyFrame()
	}
}

// reportMissing writes once into the log that an announced picture does not come, with counters that may explain it. They include what we send
// ourselves, because a window stops sending while it does not see the other one.
func (s *Session) reportMissing(now time.Time, p *participant) {
	up, muted := s.announced(p)
	switch {
	case !up || muted || p.picture:
		p.missing, p.reported = time.Time{}, false
	case p.missing.IsZero():
		p.missing = now
	case !p.reported && now.Sub(p.missing) >= s.cfg.PictureLimit:
		p.reported = true
		c, start := s.counters.Stats(), s.start
		e := s.cfg.Log.Info().Str("identity", p.identity).Bool("track", p.video != nil)
		if p.video != nil {
			e.Str("track_id", p.video.trackSID).Uint64("packets", p.video.packets.Load())
		}
		e.Uint64("no_key", c.NoKey-start.NoKey).Uint64("undecryptable", c.Undecryptable-start.Undecryptable).
			Uint64("key_frames_asked", c.KeyFramesAsked-start.KeyFramesAsked).Uint64("sent", c.FramesSent-start.FramesSent).
			Uint64("gated", c.Gated-start.Gated).Uint64("unpublished", c.Unpublished-start.Unpublished).
			Uint64("without_key_frame", c.WithoutKeyFrame-start.WithoutKeyFrame).Uint64("no_own_key", c.NoOwnKey-start.NoOwnKey).
			Msg("A picture that was announced does not come")
	}
}

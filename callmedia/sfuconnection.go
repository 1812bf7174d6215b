package callmedia

import (
	"context"
	"fmt"
	"time"

	"github.com/livekit/protocol/livekit"

	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/e2ee"
	"multifactorymodel.org/ewindow/callmedia/sfu"
	"multifactorymodel.org/ewindow/callmedia/track"
)

// joinLimit is how long it may take to join an SFU and to publish there.
const joinLimit = 15 * time.Second

// newBackoff says how long to wait before an SFU is joined again. After a connection that held for ten seconds the wait is short again.
func newBackoff() backoff.Backoff {
	return backoff.Backoff{Min: 150 * time.Millisecond, Max: 10 * time.Second, Steady: 10 * time.Second}
}

// sfuConnection is the connection to one SFU, which is joined again and again. Its fields belong to the goroutine of Session.run, except service
// and own, which don't change and which keep reads.
type sfuConnection struct {
	session   *Session
	service   string // livekit_service_url
	own       bool   // the one we publish at
	drop      context.CancelFunc
	room      *sfu.Room // nil while it is not joined
	tracks    []*sfu.LocalTrack
	receivers map[string]*receiver // by track SID
	cameras   map[string]camera    // by track SID; also those that send nothing yet
	identity  string               // our own name there, once it was joined
	present   map[string]bool      // the identities of the others in the room
}

// camera is a participant's announced picture.
type camera struct {
	identity string
	muted    bool
	mimeType string // of its codec, empty while that is not known
}

// connect starts the goroutine that keeps up a connection to an SFU. Session.run calls it. Start also calls it, before Session.run begins.
func (s *Session) connect(service string) {
	ctx, cancel := context.WithCancel(s.ctx)
	c := &sfuConnection{
		session: s, service: service, own: service == s.cfg.Service, drop: cancel,
		receivers: make(map[string]*receiver), cameras: make(map[string]camera), present: make(map[string]bool),
	}
	s.connections[service] = c
	s.tasks.Go(func() { c.keep(ctx) })
}

// keep joins the SFU again and again until ctx ends.
func (c *sfuConnection) keep(ctx context.Context) {
	s := c.session
	pause := newBackoff()
	for ctx.Err() == nil {
		held, err := c.join(ctx)
		if ctx.Err() != nil {
			return
		}
		s.cfg.Log.Warn().Err(err).Str("service", c.service).Msg("No connection to the SFU, trying again")
		if c.own {
			s.post(func() { s.cfg.OnEvent(SessionEvent{Kind: Lost, Err: err}) })
		}
		pause.Ran(held)
		select {
		case <-time.After(pause.Next()):
		case <-ctx.Done():
		}
	}
}

// join joins once, with a fresh token, and serves the room until it is lost. It returns how long the connection held, and why it ended. For a
// join that failed, held is 0.
func (c *sfuConnection) join(ctx context.Context) (held time.Duration, err error) {
	s := c.session
	joining, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	url, token, err := s.cfg.Token(joining, c.service)
	if err != nil {
		return 0, fmt.Errorf("get token: %w", err)
	}
	options := sfu.Options{
		URL: url, Token: token, Publish: c.own, Log: s.cfg.Log,
		ForceRelay: s.cfg.ForceRelay, AllowLoopback: s.cfg.AllowLoopback,
	}
	up, down := s.cfg.Line.known(time.Now())
	options.UplinkStart, options.DownlinkStart, options.NoUDP = up, down, s.cfg.Line.avoidUDP(time.Now())
	if options.NoUDP {
		defer func() {
			if held == 0 && ctx.Err() == nil {
				s.cfg.Line.setUDP(time.Now(), true) // TCP does not get through, either: both are tried in turn
			}
		}()
	}
	if c.own {
		options.OnBitrate = s.setEstimate
	} else {
		options.Allowed = s.cfg.Allowed
	}
	room, err := sfu.Connect(joining, options)
	if err != nil {
		return 0, fmt.Errorf("join: %w", err)
	}
	if c.own {
		s.counters.room.Store(room)
		defer s.counters.room.CompareAndSwap(room, nil)
	}
	s.post(func() { c.identity = room.Identity() })
	// The SFU's events are taken while we publish: the room's bounded queue must not fill up.
	lost := make(chan error, 1)
	s.tasks.Go(func() { lost <- c.handleEvents(room) })
	if c.own {
		err = c.publish(joining, room)
	} else {
		s.post(func() {
			c.room = room
			s.assignTiles()
		})
	}
	if err == nil {
		joined := time.Now()
		select {
		case err = <-lost:
			lost = nil
		case <-ctx.Done():
		}
		held = time.Since(joined)
	}
	_ = room.Close()
	if lost != nil {
		<-lost
	}
	s.post(c.clear)
	return held, err
}

// publish publishes both own tracks. From then on the senders write to them.
func (c *sfuConnection) publish(ctx context.Context, room *sfu.Room) error {
	s := c.session
	audio, err := room.PublishAudio(ctx)
	if err != nil {
		return fmt.Errorf("publish sound: %w", err)
	}
	video, err := room.PublishVideo(ctx, sizeSmall, sizeLarge)
	if err != nil {
		return fmt.Errorf("publish picture: %w", err)
	}
	layers := [track.Kinds]*sfu.LocalLayer{track.Audio: audio.Layers[0], track.SmallVideo: video.Layers[0], track.Video: video.Layers[1]}
	video.OnKeyFrameRequest(func(layer int) { s.requestKeyFrame([]track.Kind{track.SmallVideo, track.Video}[layer]) })
	s.post(func() {
		c.room, c.tracks = room, []*sfu.LocalTrack{audio, video}
		c.tellMuted()
		s.smallOnly = false
		if up, _ := s.cfg.Line.known(time.Now()); up == 0 { // what the connection before carried says nothing of this one
			s.highest, s.narrow = 0, false
		}
		s.limitBitrate()
		for kind, layer := range layers {
			s.senders[kind].publish(layer, layer.SSRC(), layer.PayloadType())
		}
		s.counters.connected.Add(1)
		s.cfg.OnEvent(SessionEvent{Kind: Connected})
		s.assignTiles()
	})
	return nil
}

// tellMuted tells the SFU which of the own tracks are muted. The first is the sound.
func (c *sfuConnection) tellMuted() {
	for i, t := range c.tracks {
		t.SetMuted(!c.session.camera && (i > 0 || !c.session.sound.Load()))
	}
}

// clear forgets a room that is over.
func (c *sfuConnection) clear() {
	s := c.session
	if c.own {
		for _, sender := range s.senders {
			sender.unpublish()
		}
	}
	c.room, c.tracks = nil, nil
	clear(c.cameras)
	clear(c.present)
	c.stopKeyFrameRequests()
	clear(c.receivers)
	s.assignTiles()
	s.emitArrivals()
}

// emitArrivals emits who has come to the rooms that we are in, and who has left them. A room of another SFU may be the same room as ours, so our
// own names in other rooms are nobody's.
func (s *Session) emitArrivals() {
	now, own := make(map[string]bool), make(map[string]bool)
	for _, c := range s.connections {
		own[c.identity] = c.identity != ""
		for identity := range c.present {
			now[identity] = true
		}
	}
	for identity := range now {
		if !own[identity] && !s.here[identity] {
			s.here[identity] = true
			s.cfg.OnEvent(SessionEvent{Kind: Arrived, Identity: identity})
		}
	}
	for identity := range s.here {
		if own[identity] || !now[identity] {
			delete(s.here, identity)
			s.cfg.OnEvent(SessionEvent{Kind: Departed, Identity: identity})
		}
	}
}

// stopKeyFrameRequests ends the requests for key frames that are still to be made.
func (c *sfuConnection) stopKeyFrameRequests() {
	for _, r := range c.receivers {
		r.keys.Close()
	}
}

// handleEvents passes the room's events to Session.run until the room is lost, and returns why it was.
func (c *sfuConnection) handleEvents(room *sfu.Room) (err error) {
	s := c.session
	for e := range room.Events() {
		switch e := e.(type) {
		case sfu.Disconnected:
			if e.Reason != sfu.ReasonClosed {
				s.cfg.Line.forget()
			}
			if e.Reason == sfu.ReasonUDP {
				s.cfg.Line.setUDP(time.Now(), false)
				s.cfg.Log.Warn().Str("service", c.service).Msg("UDP does not get through here for long. Media go over TCP for an hour")
			}
			err = fmt.Errorf("lost: %s", e.Reason)
			if e.Err != nil {
				err = fmt.Errorf("lost: %s: %w", e.Reason, e.Err)
			}
		case sfu.ParticipantJoined:
			s.post(func() {
				c.present[e.Identity] = true
				s.assignTiles()
				s.emitArrivals()
			})
		case sfu.ParticipantLeft:
			s.post(func() {
				delete(c.present, e.Identity)
				s.assignTiles()
				s.emitArrivals()
			})
		case sfu.TrackPublished:
			s.post(func() {
				c.published(e.TrackSID, e.Identity, e.Source, e.Encryption, e.Muted, e.MIMEType)
				s.assignTiles()
			})
		case sfu.TrackSubscribed:
			s.post(func() { c.subscribed(room, e) })
		case sfu.TrackGone:
			s.post(func() { c.gone(e.TrackSID) })
		case sfu.QualityWanted:
			s.post(func() {
				s.smallOnly = e.Wanted && e.Quality == livekit.VideoQuality_LOW
				s.limitBitrate()
			})
		case sfu.BitrateAsked:
			s.post(func() { s.takeAsk(e.Identity, e.BPS, e.Slow, e.Lost, time.Now()) })
		case sfu.TrackMuted:
			s.post(func() {
				if camera, ok := c.cameras[e.TrackSID]; ok {
					camera.muted = e.Muted
					c.cameras[e.TrackSID] = camera
					s.assignTiles()
				}
			})
		}
	}
	return err
}

// published notes an announced picture.
func (c *sfuConnection) published(
	trackSID, identity string, source livekit.TrackSource, encryption livekit.Encryption_Type, muted bool, mimeType string,
) {
	if source == livekit.TrackSource_CAMERA && encryption == livekit.Encryption_GCM {
		c.cameras[trackSID] = camera{identity, muted, mimeType}
	}
}

// subscribed begins to read a remote track.
func (c *sfuConnection) subscribed(room *sfu.Room, e sfu.TrackSubscribed) {
	s := c.session
	kind := track.Audio
	switch e.Source {
	case livekit.TrackSource_MICROPHONE:
	case livekit.TrackSource_CAMERA, livekit.TrackSource_SCREEN_SHARE:
		kind = track.Video
	default:
		// Tracks from other sources are not shown. They are read all the same: the SFU estimates the bandwidth from what we acknowledge.
		if e.Kind == livekit.TrackType_VIDEO {
			kind = track.Video
		}
	}
	if e.Encryption != livekit.Encryption_GCM {
		s.counters.unencrypted.Add(1)
		s.cfg.Log.Warn().Str("identity", e.Identity).Str("track_id", e.TrackSID).Msg("A track that is not end-to-end encrypted is not played")
	}
	arrives := e.Remote.Codec().MimeType
	c.published(e.TrackSID, e.Identity, e.Source, e.Encryption, e.Muted, arrives)
	coding := codec.Find(arrives)
	r := &receiver{
		session: s, identity: e.Identity, trackSID: e.TrackSID, kind: kind, codec: coding, from: e.Source, source: newSource(),
		playable: s.playable(e.Source, e.Encryption, coding),
		trailer:  room.SIFTrailer(),
		clock:    func() (time.Time, uint32, bool) { return room.SenderClock(e.TrackSID) },
		setSize:  func(want size) { room.SetTrackSize(e.TrackSID, want.Width, want.Height) },
		size:     sizeLarge, idleSince: time.Now(),
	}
	r.keys.Ask = func() {
		s.counters.keyFramesAsked.Add(1)
		room.RequestKeyFrame(e.TrackSID)
	}
	if old := c.receivers[e.TrackSID]; old != nil {
		old.keys.Close()
	}
	c.receivers[e.TrackSID] = r
	reader := &track.Reader{
		Track: e.Remote, Kind: kind, Codec: coding, Frame: r.frame, NeedKeyFrame: r.needKeyFrame,
		Malformed: func() { s.counters.malformed.Add(1) },
		Counters:  r.count,
	}
	s.tasks.Go(reader.Run)
	s.assignTiles()
}

// find returns the track with what a participant sends from a source, nil for none. It never returns a track of another identity at the same
// SFU, or a track that is not encrypted. Of two tracks from one source the later one counts.
func (c *sfuConnection) find(identity string, source livekit.TrackSource) (found *receiver) {
	for _, r := range c.receivers {
		if r.identity == identity && r.playable && r.from == source && (found == nil || r.source > found.source) {
			found = r
		}
	}
	return found
}

// playable tells whether a track may be shown: a camera, microphone or screen, encrypted, in a codec that the page shows.
func (s *Session) playable(source livekit.TrackSource, encryption livekit.Encryption_Type, c codec.Codec) bool {
	if encryption != livekit.Encryption_GCM {
		return false
	}
	switch source {
	case livekit.TrackSource_MICROPHONE:
		return c == track.Audio.Codec()
	case livekit.TrackSource_CAMERA, livekit.TrackSource_SCREEN_SHARE:
		return s.shows(c)
	}
	return false
}

// gone forgets a remote track.
func (c *sfuConnection) gone(trackSID string) {
	if r := c.receivers[trackSID]; r != nil {
		r.keys.Close()
		delete(c.receivers, trackSID)
	}
	delete(c.cameras, trackSID)
	c.session.assignTiles()
}

// newDecryptor makes a decryptor with the participant's keys for a track.
func (r *receiver) newDecryptor(keys *e2ee.KeyRing) *e2ee.Decryptor {
	return e2ee.NewDecryptor(r.codec, keys, r.trailer)
}

package callmedia

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/livekit/protocol/livekit"

	"multifactorymodel.org/ewindow/callmedia/e2ee"
	"multifactorymodel.org/ewindow/callmedia/sfu"
)

// Waiting between attempts to join an SFU.
const (
	minBackoff  = 250 * time.Millisecond
	maxBackoff  = 10 * time.Second
	joinLimit   = 15 * time.Second
	steadyAfter = 10 * time.Second // a connection that held as long begins with minBackoff again
)

// link is the connection to one SFU, joined again and again until it is dropped. Its fields belong to the owner, except
// that keep reads service and own.
type link struct {
	session   *Session
	service   string
	own       bool // the one we publish at
	drop      context.CancelFunc
	room      *sfu.Room
	tracks    []*sfu.LocalTrack
	receivers map[string]*receiver // by track SID
	cameras   map[string]camera    // by track SID; also those that send nothing yet
	present   map[string]bool      // the identities in the room
}

// camera is a participant's announced picture.
type camera struct {
	identity string
	muted    bool
}

// addLink begins to keep up a connection to an SFU. It is called by Start and by the owner.
func (s *Session) addLink(service string) {
	ctx, cancel := context.WithCancel(s.ctx)
	l := &link{
		session: s, service: service, own: service == s.cfg.Service, drop: cancel,
		receivers: make(map[string]*receiver), cameras: make(map[string]camera), present: make(map[string]bool),
	}
	s.links[service] = l
	s.tasks.Go(func() { l.keep(ctx) })
}

// keep joins the SFU for ever.
func (l *link) keep(ctx context.Context) {
	s := l.session
	backoff := minBackoff
	for ctx.Err() == nil {
		begun := time.Now()
		err := l.join(ctx)
		if ctx.Err() != nil {
			return
		}
		s.cfg.Log.Warn().Err(err).Str("service", l.service).Msg("No connection to the SFU, trying again")
		if l.own {
			s.post(func() { s.cfg.OnEvent(SessionEvent{Kind: Lost, Err: err}) })
		}
		if time.Since(begun) > steadyAfter {
			backoff = minBackoff
		}
		// Windows that lost the same SFU must not all come back in the same moment.
		wait := backoff/2 + rand.N(backoff)
		backoff = min(2*backoff, maxBackoff)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// join joins once, with a fresh token, and serves the room until it is lost. It returns why.
func (l *link) join(ctx context.Context) error {
	s := l.session
	joining, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	url, token, err := s.cfg.Token(joining, l.service)
	if err != nil {
		return fmt.Errorf("get token: %w", err)
	}
	options := sfu.Options{
		URL: url, Token: token, Publish: l.own, HTTPClient: s.cfg.HTTPClient, Log: s.cfg.Log,
		ForceRelay: s.cfg.ForceRelay, AllowLoopback: s.cfg.AllowLoopback,
	}
	if l.own {
		options.OnBitrate = s.setEstimate
	}
	room, err := sfu.Connect(joining, options)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	// What the SFU has to say is taken while we publish: its bounded queue must not fill up.
	lost := make(chan error, 1)
	s.tasks.Go(func() { lost <- l.serve(room) })
	if l.own {
		err = l.publish(joining, room)
	} else {
		s.post(func() {
			l.room = room
			s.place()
		})
	}
	if err == nil {
		select {
		case err = <-lost:
			lost = nil
		case <-ctx.Done():
		}
	}
	_ = room.Close()
	if lost != nil {
		<-lost
	}
	s.post(l.clear)
	return err
}

// publish announces both own tracks and sends them from then on.
func (l *link) publish(ctx context.Context, room *sfu.Room) error {
	s := l.session
	audio, err := room.PublishAudio(ctx)
	if err != nil {
		return fmt.Errorf("publish sound: %w", err)
	}
	video, err := room.PublishVideo(ctx, sizeStrip, sizeMain)
	if err != nil {
		return fmt.Errorf("publish picture: %w", err)
	}
	layers := [kinds]*sfu.LocalLayer{Audio: audio.Layers[0], SmallVideo: video.Layers[0], Video: video.Layers[1]}
	video.OnKeyFrameRequest(func(layer int) { s.requestKeyFrame([]Kind{SmallVideo, Video}[layer]) })
	s.post(func() {
		l.room, l.tracks = room, []*sfu.LocalTrack{audio, video}
		l.mute(!s.camera)
		s.smallOnly = false
		s.limit()
		for kind, layer := range layers {
			s.senders[kind].publish(layer, layer.SSRC(), layer.PayloadType())
		}
		s.stats.connected.Add(1)
		s.cfg.OnEvent(SessionEvent{Kind: Connected})
		s.place()
	})
	return nil
}

// mute tells the SFU whether the own tracks are muted.
func (l *link) mute(on bool) {
	for _, t := range l.tracks {
		t.SetMuted(on)
	}
}

// clear forgets a room that is over.
func (l *link) clear() {
	s := l.session
	if l.own {
		for _, sender := range s.senders {
			sender.publish(nil, 0, 0)
		}
	}
	l.room, l.tracks = nil, nil
	clear(l.cameras)
	clear(l.present)
	l.stopAsking()
	clear(l.receivers)
	s.place()
}

// stopAsking ends the requests for key frames that are still waiting to be made.
func (l *link) stopAsking() {
	for _, r := range l.receivers {
		r.keys.close()
	}
}

// serve passes the room's events to the owner until it is lost, and returns why it was.
func (l *link) serve(room *sfu.Room) (err error) {
	s := l.session
	for e := range room.Events() {
		switch e := e.(type) {
		case sfu.Disconnected:
			err = fmt.Errorf("lost: %s", e.Reason)
			if e.Err != nil {
				err = fmt.Errorf("lost: %s: %w", e.Reason, e.Err)
			}
		case sfu.ParticipantJoined:
			s.post(func() {
				l.present[e.Identity] = true
				s.place()
			})
		case sfu.ParticipantLeft:
			s.post(func() {
				delete(l.present, e.Identity)
				s.place()
			})
		case sfu.TrackPublished:
			s.post(func() {
				l.published(e.TrackSID, e.Identity, e.Source, e.Encryption, e.Muted)
				s.place()
			})
		case sfu.TrackSubscribed:
			s.post(func() { l.subscribed(room, e) })
		case sfu.TrackGone:
			s.post(func() { l.gone(e.TrackSID) })
		case sfu.QualityWanted:
			s.post(func() {
				s.smallOnly = e.Wanted && e.Quality == livekit.VideoQuality_LOW
				s.limit()
			})
		case sfu.TrackMuted:
			s.post(func() {
				if c, ok := l.cameras[e.TrackSID]; ok {
					c.muted = e.Muted
					l.cameras[e.TrackSID] = c
					s.place()
				}
			})
		}
	}
	return err
}

// published notes an announced picture.
func (l *link) published(trackSID, identity string, source livekit.TrackSource, encryption livekit.Encryption_Type, muted bool) {
	if source == livekit.TrackSource_CAMERA && encryption == livekit.Encryption_GCM {
		l.cameras[trackSID] = camera{identity, muted}
	}
}

// subscribed begins to read a remote track.
func (l *link) subscribed(room *sfu.Room, e sfu.TrackSubscribed) {
	s := l.session
	kind := Audio
	switch e.Source {
	case livekit.TrackSource_MICROPHONE:
	case livekit.TrackSource_CAMERA, livekit.TrackSource_SCREEN_SHARE:
		kind = Video
	default:
		// Other sources are read as well, for the line's sake, but shown nowhere.
		kind = kindOf(e.Kind)
	}
	if e.Encryption != livekit.Encryption_GCM {
		s.stats.unencrypted.Add(1)
		s.cfg.Log.Warn().Str("identity", e.Identity).Str("track_id", e.TrackSID).Msg("A track that is not end-to-end encrypted is not played")
	}
	l.published(e.TrackSID, e.Identity, e.Source, e.Encryption, e.Muted)
	r := &receiver{
		session: s, identity: e.Identity, trackSID: e.TrackSID, kind: kind, from: e.Source, source: s.newSource(),
		playable: playable(e.Source, e.Encryption, e.Remote.Codec().MimeType),
		trailer:  room.SIFTrailer(),
		clock:    func() (time.Time, uint32, bool) { return room.SenderClock(e.TrackSID) },
		resize:   func(want size) { room.SetTrackSize(e.TrackSID, want.Width, want.Height) },
		size:     sizeMain, idleSince: time.Now(),
	}
	r.keys.ask = func() {
		s.stats.keyFramesAsked.Add(1)
		room.RequestKeyFrame(e.TrackSID)
	}
	if old := l.receivers[e.TrackSID]; old != nil {
		old.keys.close()
	}
	l.receivers[e.TrackSID] = r
	p := &pump{
		track: e.Remote, kind: kind, frame: r.frame, needKey: r.needKey,
		malformed: func() { s.stats.malformed.Add(1) },
		counters:  r.count,
	}
	s.tasks.Go(p.run)
	s.place()
}

// find returns the track that shows or plays what a participant sends from a source, nil for none. Other identities of the same SFU, and
// what is not encrypted, never get further. Of two tracks of one source the later one counts.
func (l *link) find(identity string, source livekit.TrackSource) (found *receiver) {
	for _, r := range l.receivers {
		if r.identity == identity && r.playable && r.from == source && (found == nil || r.source > found.source) {
			found = r
		}
	}
	return found
}

// playable tells whether a track may be shown: a camera, microphone or screen, encrypted, in the codec that the page is sent.
func playable(source livekit.TrackSource, encryption livekit.Encryption_Type, mimeType string) bool {
	kind := Audio
	switch source {
	case livekit.TrackSource_MICROPHONE:
	case livekit.TrackSource_CAMERA, livekit.TrackSource_SCREEN_SHARE:
		kind = Video
	default:
		return false
	}
	return encryption == livekit.Encryption_GCM && strings.EqualFold(mimeType, kind.codec().Parameters().MIMEType)
}

func kindOf(t livekit.TrackType) Kind {
	if t == livekit.TrackType_VIDEO {
		return Video
	}
	return Audio
}

// gone forgets a remote track.
func (l *link) gone(trackSID string) {
	if r := l.receivers[trackSID]; r != nil {
		r.keys.close()
		delete(l.receivers, trackSID)
	}
	delete(l.cameras, trackSID)
	l.session.place()
}

// newDecryptor makes a decryptor with the participant's keys for a track.
func (r *receiver) newDecryptor(keys *e2ee.KeyRing) *e2ee.Decryptor {
	return e2ee.NewDecryptor(r.kind.codec(), keys, r.trailer)
}

var _ publication = (*sfu.LocalLayer)(nil)

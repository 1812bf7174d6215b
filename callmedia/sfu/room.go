package sfu

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/webrtc/v4"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/callmedia/bandwidth"
	"multifactorymodel.org/ewindow/callmedia/peerconnection"
)

// Times and sizes of a room.
const (
	tick           = time.Second
	mediaTimeout   = 20 * time.Second // from join until the subscriber connection works
	udpTimeout     = 6 * time.Second  // the same, if it may be UDP that does not get through
	pingLongest    = 2 * time.Second  // between two pings
	alive          = 4 * time.Second  // since the SFU's last word: after that, signalling may be dead, too
	leaveTimeout   = time.Second
	reportInterval = time.Second            // between two sender reports
	bitratePeriod  = 100 * time.Millisecond // between two calls of OnBitrate

	eventQueue    = 4096
	callQueue     = 64
	messageQueue  = 64
	maxCandidates = 64 // kept while there is no remote description
)

// Room is one participant's connection to one room of an SFU. Its methods may be called from several goroutines.
type Room struct {
	opts    Options
	ipv6    *ipv6Alone
	log     zerolog.Logger
	conn    *signalConn
	started time.Time

	identity     string
	trailer      []byte
	pingInterval time.Duration
	pingTimeout  time.Duration

	subscriber *webrtc.PeerConnection
	publisher  *webrtc.PeerConnection // nil unless Options.Publish
	lossy      *webrtc.DataChannel    // of publisher
	up         *bandwidth.Uplink
	down       *bandwidth.Downlink
	pacer      pacer

	events chan Event                   // written by the room's goroutine only
	outbox chan *livekit.SignalRequest  // to the writing goroutine
	inbox  chan *livekit.SignalResponse // from the reading goroutine
	calls  chan func()                  // run by the room's goroutine

	failOnce sync.Once
	failure  Disconnected  // read after failed
	failed   chan struct{} // closed by the first end of any kind
	done     chan struct{} // closed when everything has ended

	counters counters
	rtt      atomic.Int64 // signalling round trip, ns

	mu      sync.Mutex // guards what follows
	remotes map[string]*remoteTrack
	locals  []*LocalTrack
	running sync.WaitGroup // goroutines that end when the room does
	ended   bool           // no goroutine may be added any more

	// What follows belongs to the room's goroutine. It is also the only writer of remotes and locals.
	others         *participants
	offerID        uint32
	offering       bool
	offerAgain     bool
	subscriberUp   bool
	publisherUp    bool
	closedByRemote bool
	asked          map[string]time.Time // when a participant last asked for a bitrate
	pending        map[livekit.SignalTarget][]webrtc.ICECandidateInit
	heard          time.Time
	pinged         time.Time
}

func newRoom(opts Options, ipv6 *ipv6Alone, conn *signalConn, join *livekit.JoinResponse) (*Room, error) {
	ipv6.useServers(join.GetIceServers())
	r := &Room{
		opts: opts, ipv6: ipv6, conn: conn, started: time.Now(),
		identity:     join.GetParticipant().GetIdentity(),
		trailer:      slices.Clone(join.GetSifTrailer()),
		pingInterval: min(seconds(join.GetPingInterval(), 5, 1, 30), pingLongest),
		pingTimeout:  seconds(join.GetPingTimeout(), 15, 3, 60),
		events:       make(chan Event, eventQueue),
		outbox:       make(chan *livekit.SignalRequest, messageQueue),
		inbox:        make(chan *livekit.SignalResponse),
		calls:        make(chan func(), callQueue),
		failed:       make(chan struct{}),
		done:         make(chan struct{}),
		remotes:      make(map[string]*remoteTrack),
		asked:        make(map[string]time.Time),
		up:           bandwidth.NewUplink(opts.UplinkStart),
		down:         bandwidth.NewDownlink(opts.DownlinkStart),
		pending:      make(map[livekit.SignalTarget][]webrtc.ICECandidateInit),
	}
	r.others = newParticipants(join.GetParticipant().GetSid(), r.identity, &r.counters.refused)
	r.log = opts.Log.With().Str("participant_id", peerconnection.Printable(join.GetParticipant().GetSid())).Logger()
	servers, bad := iceServers(join.GetIceServers())
	if bad > 0 {
		r.log.Warn().Int("count", bad).Msg("The SFU announced ICE servers that cannot be used")
	}
	var err error
	if r.subscriber, err = newPeerConnection(opts, r.ipv6, servers, nil, r.down); err != nil {
		return nil, fmt.Errorf("make the subscriber connection: %w", err)
	}
	r.watch(r.subscriber, livekit.SignalTarget_SUBSCRIBER)
	r.subscriber.OnTrack(func(t *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
		// pion calls this in a goroutine of its own.
		if r.enter() {
			defer r.running.Done()
			r.onTrack(t, receiver)
		}
	})
	r.subscriber.OnDataChannel(r.readData)
	if opts.Publish {
		if r.publisher, err = newPeerConnection(opts, r.ipv6, servers, r.up, nil); err != nil {
			_ = r.subscriber.Close()
			return nil, fmt.Errorf("make the publisher connection: %w", err)
		}
		r.watch(r.publisher, livekit.SignalTarget_PUBLISHER)
		if err = r.openLossy(); err != nil {
			_ = r.subscriber.Close()
			_ = r.publisher.Close()
			return nil, fmt.Errorf("open the data channel: %w", err)
		}
	}
	r.others.update(join.GetOtherParticipants(), r.emit)
	return r, nil
}

// seconds is a time that the SFU sets, within limits.
func seconds(v int32, missing, low, high time.Duration) time.Duration {
	if v <= 0 {
		return missing * time.Second
	}
	return min(max(time.Duration(v), low), high) * time.Second
}

// Events returns what happens in the room, for one consumer. The room never waits for it: when thousands of events were not consumed, the room
// ends. The last event is a [Disconnected]. The channel is closed when everything has ended.
func (r *Room) Events() <-chan Event { return r.events }

// Identity is our own identity in the room, as the SFU knows us.
func (r *Room) Identity() string { return r.identity }

// SIFTrailer is the end of every frame that the SFU makes up (server-injected frames, for example silence for a muted track). Such frames are
// not encrypted and must be dropped. It is empty when the SFU makes none.
func (r *Room) SIFTrailer() []byte { return append([]byte(nil), r.trailer...) }

// Close leaves the room and waits until all goroutines have ended. It may be called again, and by several goroutines, but not from the
// callbacks OnBitrate and OnKeyFrameRequest.
func (r *Room) Close() error {
	r.fail(ReasonClosed, nil)
	<-r.done
	return nil
}

// watch follows the candidates and the state of a peer connection. In pion's state "disconnected" it has been silent for iceLost. Then joining
// again is quicker than waiting longer.
func (r *Room) watch(pc *webrtc.PeerConnection, target livekit.SignalTarget) {
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c != nil {
			r.sendCandidate(c.ToJSON(), target)
		}
	})
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		switch state {
		case webrtc.PeerConnectionStateConnected:
			r.post(func() { r.peerUp(target) })
		case webrtc.PeerConnectionStateDisconnected, webrtc.PeerConnectionStateFailed:
			r.post(func() { r.failMedia(time.Now(), fmt.Errorf("the %s connection is %s", target, state)) })
		case webrtc.PeerConnectionStateClosed:
			// The SFU closed the connection. It also says why on the signalling connection, perhaps a moment later.
			r.post(func() { r.closedByRemote = true })
		}
	})
}

func (r *Room) peerUp(target livekit.SignalTarget) {
	if target == livekit.SignalTarget_SUBSCRIBER {
		r.subscriberUp = true
		return
	}
	r.publisherUp = true
	r.checkReady()
}

func (r *Room) start(early []*livekit.SignalResponse) {
	r.heard, r.pinged = r.started, r.started
	reader, writer := make(chan struct{}), make(chan struct{})
	go func() { defer close(reader); r.readSignals() }()
	go func() { defer close(writer); r.writeSignals() }()
	r.spawn(r.reports)
	go func() {
		for _, m := range early {
			r.handle(m)
		}
		r.run()
		r.finish(reader, writer)
	}()
}

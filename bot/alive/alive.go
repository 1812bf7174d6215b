// Package alive gives a window's homeserver a sign of life. The window leaves a delayed event (MSC4140) with it, a state event that says that the window
// is gone, and restarts it before its time comes. When the window's power fails, the homeserver sends the event to everybody. As long as the window
// runs, that costs one short request to its own homeserver each [Every], and nothing else.
//
// Make a [Sign] with [New], run it by [Sign.Run] in a goroutine, and say by [Sign.SetRoom] for which room it is. An event that was sent is not taken back
// here. Package rtc uses delayed events for calls, with rules of their own.
package alive

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
	"multifactorymodel.org/ewindow/bot/matrixerror"
	"multifactorymodel.org/ewindow/bot/request"
	"multifactorymodel.org/ewindow/bot/unstable"
)

const (
	// Delay is how long the homeserver waits for a sign. It is long enough for the program to start again, and for a line to come back.
	Delay = 90 * time.Second
	// Every is how often it gets one.
	Every = 25 * time.Second

	requestLimit = 15 * time.Second // of one request
	goodbyeLimit = 2 * time.Second  // of the request at the end
)

// errUnsupported: the homeserver has no delayed events.
var errUnsupported = errors.New("the homeserver has no delayed events (MSC4140)")

// Sign is the sign of life of one window. SetRoom and Again may be called from any goroutine.
type Sign struct {
	requests *request.Client
	typ      event.Type
	content  any
	log      zerolog.Logger
	changed  chan struct{} // has one element after Again

	mu   sync.Mutex // guards room
	room id.RoomID

	// What follows belongs to Run's goroutine.
	waits   id.RoomID // the room that the delayed event is for
	delayID string    // a secret: whoever knows it can say that the window is gone
}

// New returns a Sign whose event has this type and content, and an empty key. client is called when Run was.
func New(client func() *mautrix.Client, typ event.Type, content any, log zerolog.Logger) *Sign {
	return &Sign{requests: request.New(client), typ: typ, content: content, log: log, changed: make(chan struct{}, 1)}
}

// SetRoom says which room the event is for. An empty room takes the event back.
func (s *Sign) SetRoom(room id.RoomID) {
	s.mu.Lock()
	same := s.room == room
	s.room = room
	s.mu.Unlock()
	if !same {
		s.Again()
	}
}

// Again gives a sign of life at once: the event was sent, and was taken back.
func (s *Sign) Again() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Run gives signs of life until ctx ends. It then sends the event at once, which takes up to two seconds. It returns early if the homeserver has no delayed
// events.
func (s *Sign) Run(ctx context.Context) {
	pause := backoff.Backoff{Min: time.Second, Max: Every}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			s.act(context.WithoutCancel(ctx), goodbyeLimit, unstable.DelaySend)
			return
		case <-s.changed:
		case <-timer.C:
		}
		wait := Every
		switch err := s.step(ctx); {
		case errors.Is(err, errUnsupported):
			s.log.Warn().Err(err).Msg("If this window's power fails, the network goes on showing it as it was")
			return
		case err != nil && ctx.Err() == nil:
			wait = pause.Next()
			s.log.Debug().Err(err).Dur("retry_in", wait).Msg("No sign of life could be given")
		default:
			pause.Reset()
		}
		timer.Reset(wait)
	}
}

// step restarts the delayed event, or leaves one.
func (s *Sign) step(ctx context.Context) error {
	s.mu.Lock()
	room := s.room
	s.mu.Unlock()
	if s.delayID != "" && s.waits != room {
		s.act(ctx, requestLimit, unstable.DelayCancel)
		s.delayID = ""
	}
	if s.delayID != "" {
		if err := s.act(ctx, requestLimit, unstable.DelayRestart); !matrixerror.IsNotFound(err) {
			return err
		}
		s.delayID = "" // it was sent
	}
	if room == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	has, err := s.requests.HasDelayed(ctx)
	if err == nil && !has {
		return errUnsupported
	}
	if err != nil {
		return err
	}
	delayID, err := s.requests.ScheduleState(ctx, room, s.typ, "", s.content, Delay)
	if refused := matrixerror.Of(err); refused != nil && refused.Status == http.StatusNotImplemented {
		return errUnsupported // it was sent at once
	}
	if err != nil {
		return err
	}
	s.waits, s.delayID = room, delayID
	return nil
}

// act restarts, sends or cancels the delayed event, if there is one.
func (s *Sign) act(ctx context.Context, limit time.Duration, action string) error {
	if s.delayID == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.requests.UpdateDelayed(ctx, s.delayID, action)
}

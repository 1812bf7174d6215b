package sfu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/coder/websocket"
	"github.com/livekit/protocol/livekit"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
)

// run is the room's goroutine: the only one that changes the room's state.
func (r *Room) run() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-r.failed:
			return
		case m := <-r.inbox:
			r.heard = time.Now()
			r.handle(m)
		case f := <-r.calls:
			f()
		case now := <-ticker.C:
			r.check(now)
		}
	}
}

// check does what is due by time.
func (r *Room) check(now time.Time) {
	if r.subscriberUp { // not before: pion sets the connection up without a lock
		if pair, ok := r.subscriber.SCTP().Transport().ICETransport().GetSelectedCandidatePairStats(); ok && pair.CurrentRoundTripTime > 0 {
			r.down.SetRTT(time.Duration(pair.CurrentRoundTripTime * float64(time.Second)))
		}
	}
	switch {
	case r.closedByRemote:
		r.fail(ReasonMedia, errors.New("the SFU closed a media connection"))
	case now.Sub(r.heard) > r.pingTimeout:
		r.fail(ReasonTimeout, fmt.Errorf("no word from the SFU for %s", r.pingTimeout))
	case !r.mediaUp() && (now.Sub(r.started) > mediaTimeout || !r.opts.NoUDP && now.Sub(r.started) > udpTimeout):
		r.failMedia(now, fmt.Errorf("no media connection within %s", now.Sub(r.started).Round(time.Second)))
	case now.Sub(r.pinged) >= r.pingInterval:
		r.pinged = now
		r.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_PingReq{
			PingReq: &livekit.Ping{Timestamp: now.UnixMilli(), Rtt: time.Duration(r.rtt.Load()).Milliseconds()},
		}})
	}
}

// mediaUp says whether the media connections work.
func (r *Room) mediaUp() bool { return r.subscriberUp && (r.publisherUp || len(r.locals) == 0) }

// failMedia ends the room because a media connection does not work. If signalling works, it is most likely UDP that does not get through.
func (r *Room) failMedia(now time.Time, err error) {
	if r.opts.NoUDP || now.Sub(r.heard) > alive {
		r.fail(ReasonMedia, err)
		return
	}
	r.fail(ReasonUDP, err)
}

// finish ends everything that start and the callbacks began.
func (r *Room) finish(reader, writer <-chan struct{}) {
	// emit leaves the last place of the queue free for this one.
	r.events <- r.failure
	for _, t := range r.tracks() {
		t.finish(ErrClosed)
	}
	if r.failure.Reason != ReasonClosed {
		r.log.Info().Str("reason", r.failure.Reason).AnErr("error", r.failure.Err).Msg("Connection to the SFU ended")
		r.conn.abort()
	}
	// The writing goroutine sends a leave request. Then the SFU closes the connection, which ends the reading goroutine.
	giveUp := time.AfterFunc(leaveTimeout, r.conn.abort)
	<-writer
	<-reader
	giveUp.Stop()
	r.conn.abort()

	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	for _, pc := range []*webrtc.PeerConnection{r.publisher, r.subscriber} {
		if pc == nil {
			continue
		}
		if err := pc.GracefulClose(); err != nil {
			r.log.Debug().Err(err).Msg("Closing a media connection failed")
		}
	}
	r.running.Wait()
	close(r.events)
	close(r.done)
}

// fail ends the room. Only the first reason counts.
func (r *Room) fail(reason string, err error) {
	r.failOnce.Do(func() {
		r.failure = Disconnected{Reason: reason, Err: err}
		close(r.failed)
	})
}

// enter counts the calling goroutine as one that Close waits for. It is false when the room has ended.
func (r *Room) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return false
	}
	r.running.Add(1)
	return true
}

// spawn runs f in a goroutine that Close waits for.
func (r *Room) spawn(f func()) {
	if !r.enter() {
		return
	}
	go func() {
		defer r.running.Done()
		f()
	}()
}

// post hands f to the room's goroutine, which calls it. It returns false when the room has ended. The room's goroutine itself must not call
// post.
func (r *Room) post(f func()) bool {
	select {
	case r.calls <- f:
		return true
	case <-r.failed:
		return false
	}
}

// emit queues an event without ever blocking. Only the room's goroutine calls it, and newRoom before that goroutine runs.
func (r *Room) emit(e Event) {
	if len(r.events) >= cap(r.events)-1 {
		r.fail(ReasonBacklog, fmt.Errorf("%d events were not consumed", len(r.events)))
		return
	}
	r.events <- e
}

// send queues a message without ever blocking.
func (r *Room) send(m *livekit.SignalRequest) {
	select {
	case <-r.failed:
	case r.outbox <- m:
	default:
		r.fail(ReasonTimeout, errors.New("the SFU does not take our signalling messages"))
	}
}

func (r *Room) sendCandidate(c webrtc.ICECandidateInit, target livekit.SignalTarget) {
	data, err := json.Marshal(c)
	if err != nil {
		return
	}
	r.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Trickle{
		Trickle: &livekit.TrickleRequest{CandidateInit: string(data), Target: target},
	}})
}

// readSignals hands messages to the room's goroutine until the connection ends. It goes on reading after the room's end: closing a TCP connection
// with unread data resets it, and our leave request could get lost.
func (r *Room) readSignals() {
	for {
		m, err := r.conn.read(context.Background())
		switch {
		case errors.Is(err, errUnknownSignal):
			r.counters.unknownSignals.Add(1)
			continue
		case err != nil && (websocket.CloseStatus(err) != -1 || isNetwork(err)):
			r.endReading(ReasonSignal, err)
			return
		case err != nil:
			r.endReading(ReasonProtocol, err)
			return
		}
		select {
		case r.inbox <- m:
		case <-r.failed:
		}
	}
}

// endReading ends the room because nothing can be read any more. The room's goroutine does so after it has handled the messages that came
// before. The last message may say more about the end than the connection's error.
func (r *Room) endReading(reason string, err error) {
	r.post(func() { r.fail(reason, fmt.Errorf("read from the SFU: %w", err)) })
}

// writeSignals writes queued messages. After our own Close it writes those that are still queued, and a leave request.
func (r *Room) writeSignals() {
	for {
		select {
		case m := <-r.outbox:
			if err := r.conn.write(context.Background(), m); err != nil {
				// When the SFU has removed us, the write may fail before the SFU's reason is read.
				select {
				case <-r.failed:
				case <-time.After(leaveTimeout):
					r.fail(ReasonSignal, fmt.Errorf("write to the SFU: %w", err))
				}
				return
			}
		case <-r.failed:
			if r.failure.Reason == ReasonClosed {
				r.sendLeave()
			}
			return
		}
	}
}

// sendLeave writes what is still queued, and a leave request.
func (r *Room) sendLeave() {
	for {
		select {
		case m := <-r.outbox:
			if r.conn.write(context.Background(), m) != nil {
				return
			}
			continue
		default:
		}
		_ = r.conn.write(context.Background(), &livekit.SignalRequest{Message: &livekit.SignalRequest_Leave{
			Leave: &livekit.LeaveRequest{
				Action: livekit.LeaveRequest_DISCONNECT, Reason: livekit.DisconnectReason_CLIENT_INITIATED,
			},
		}})
		return
	}
}

// reports sends sender reports, looks after the estimates of the bandwidth, and passes them on.
func (r *Room) reports() {
	ticker := time.NewTicker(bitratePeriod)
	defer ticker.Stop()
	told := 0
	for {
		select {
		case <-r.failed:
			return
		case now := <-ticker.C:
			r.sendEstimate(now)
			if r.publisher == nil {
				continue
			}
			if !r.up.Check(now) {
				r.post(func() { r.failMedia(time.Now(), errors.New("the SFU reports nothing of what was sent")) })
			}
			r.sendReports(now)
			if bps := r.up.BPS(); bps != told && r.opts.OnBitrate != nil {
				told = bps
				r.opts.OnBitrate(bps)
			}
		}
	}
}

// sendEstimate tells the SFU what our line carries.
func (r *Room) sendEstimate(now time.Time) {
	if message := r.down.Update(now); message != nil {
		if err := r.subscriber.WriteRTCP([]rtcp.Packet{message}); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			r.log.Debug().Err(err).Msg("The estimate could not be sent")
		}
	}
}

// sendReports sends the sender reports that are due.
func (r *Room) sendReports(now time.Time) {
	var packets []rtcp.Packet
	for _, t := range r.tracks() {
		for _, l := range t.Layers {
			if report := l.report(now); report != nil {
				packets = append(packets, report)
			}
		}
	}
	// One by one: pion sends a compound packet as part of its first packet's stream.
	for _, p := range packets {
		if err := r.publisher.WriteRTCP([]rtcp.Packet{p}); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			r.log.Debug().Err(err).Msg("Sender report could not be sent")
		}
	}
}

// maxReadErrors is how many RTCP reads may fail in a row before a stream counts as dead.
const maxReadErrors = 100

// readingEnds says whether a failed RTCP read was the last one. Reads also fail when pion can't use the feedback that came.
func (r *Room) readingEnds(err error, inRow int) bool {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) || inRow > maxReadErrors {
		return true
	}
	select {
	case <-r.failed:
		return true
	default:
		r.counters.badRTCP.Add(1)
		return false
	}
}

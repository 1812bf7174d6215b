package sfu

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/webrtc/v4"
)

// handle acts on one message of the SFU. The room's goroutine calls it.
func (r *Room) handle(m *livekit.SignalResponse) {
	switch m := m.Message.(type) {
	case *livekit.SignalResponse_Offer:
		if err := r.takeOffer(m.Offer); err != nil {
			r.fail(ReasonProtocol, fmt.Errorf("answer the SFU's offer: %w", err))
		}
	case *livekit.SignalResponse_Answer:
		if err := r.takeAnswer(m.Answer); err != nil {
			r.fail(ReasonProtocol, fmt.Errorf("take the SFU's answer: %w", err))
		}
	case *livekit.SignalResponse_Trickle:
		r.takeCandidate(m.Trickle)
	case *livekit.SignalResponse_Update:
		r.others.update(m.Update.GetParticipants(), r.emit)
		r.announce()
	case *livekit.SignalResponse_TrackPublished:
		r.trackPublished(m.TrackPublished)
	case *livekit.SignalResponse_RequestResponse:
		r.requestAnswered(m.RequestResponse)
	case *livekit.SignalResponse_TrackUnpublished:
		if t := r.localBySID(m.TrackUnpublished.GetTrackSid()); t != nil {
			r.fail(ReasonUnpublish, errors.New("the SFU removed a published track"))
		}
	case *livekit.SignalResponse_SubscribedQualityUpdate:
		if t := r.localBySID(m.SubscribedQualityUpdate.GetTrackSid()); t != nil {
			r.emit(wantedQuality(t.SID(), m.SubscribedQualityUpdate))
		}
	case *livekit.SignalResponse_PongResp:
		if sent := m.PongResp.GetLastPingTimestamp(); sent == r.pinged.UnixMilli() {
			r.rtt.Store(int64(r.heard.Sub(r.pinged)))
		}
	case *livekit.SignalResponse_Leave:
		if m.Leave.GetReason() == livekit.DisconnectReason_CONNECTION_TIMEOUT {
			r.failMedia(r.heard, &LeaveError{Reason: m.Leave.GetReason(), Action: m.Leave.GetAction()})
			return
		}
		r.fail(ReasonLeave, &LeaveError{Reason: m.Leave.GetReason(), Action: m.Leave.GetAction()})
	case *livekit.SignalResponse_RoomMoved:
		// Our keys and the participants that we know belong to the old room.
		r.fail(ReasonProtocol, errors.New("the SFU moved us to another room"))
	default:
		// Speakers, connection quality, fresh tokens and so on: we use none of them.
	}
}

// wantedQuality is the highest quality that subscribers want of a track of ours, in any codec.
func wantedQuality(sid string, u *livekit.SubscribedQualityUpdate) QualityWanted {
	q := QualityWanted{TrackSID: sid}
	note := func(list []*livekit.SubscribedQuality) {
		for _, s := range list {
			if s.GetEnabled() {
				q.Wanted, q.Quality = true, max(q.Quality, s.GetQuality())
			}
		}
	}
	for _, c := range u.GetSubscribedCodecs() {
		note(c.GetQualities())
	}
	if len(u.GetSubscribedCodecs()) == 0 {
		//lint:ignore SA1019 older servers send nothing else
		note(u.GetSubscribedQualities())
	}
	return q
}

// takeOffer answers an offer of the subscriber connection.
func (r *Room) takeOffer(offer *livekit.SessionDescription) error {
	err := r.subscriber.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer.GetSdp()})
	if err != nil {
		return fmt.Errorf("set the remote description: %w", err)
	}
	r.addPending(livekit.SignalTarget_SUBSCRIBER)
	answer, err := r.subscriber.CreateAnswer(nil)
	if err != nil {
		return fmt.Errorf("make the answer: %w", err)
	}
	if err := r.subscriber.SetLocalDescription(answer); err != nil {
		return fmt.Errorf("set the local description: %w", err)
	}
	r.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Answer{
		Answer: &livekit.SessionDescription{Type: answer.Type.String(), Sdp: answer.SDP, Id: offer.GetId()},
	}})
	return nil
}

// negotiate offers the publisher connection, now or after the answer to the offer before.
func (r *Room) negotiate() error {
	if r.offering {
		r.offerAgain = true
		return nil
	}
	offer, err := r.publisher.CreateOffer(nil)
	if err != nil {
		return fmt.Errorf("make the offer: %w", err)
	}
	if err := r.publisher.SetLocalDescription(offer); err != nil {
		return fmt.Errorf("set the local description: %w", err)
	}
	r.offering = true
	r.offerID++
	for _, t := range r.locals {
		if t.negotiated == 0 {
			t.negotiated = r.offerID
		}
	}
	r.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Offer{
		Offer: &livekit.SessionDescription{Type: offer.Type.String(), Sdp: offer.SDP, Id: r.offerID},
	}})
	return nil
}

// takeAnswer ends one round of negotiation of the publisher connection.
func (r *Room) takeAnswer(answer *livekit.SessionDescription) error {
	if r.publisher == nil || !r.offering || (answer.GetId() != 0 && answer.GetId() != r.offerID) {
		r.counters.stray.Add(1)
		return nil
	}
	err := r.publisher.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer.GetSdp()})
	if err != nil {
		return fmt.Errorf("set the remote description: %w", err)
	}
	r.offering = false
	r.addPending(livekit.SignalTarget_PUBLISHER)
	for _, t := range r.locals {
		if t.negotiated != 0 {
			t.answered = true
		}
	}
	r.checkReady()
	if r.offerAgain {
		r.offerAgain = false
		return r.negotiate()
	}
	return nil
}

func (r *Room) peer(target livekit.SignalTarget) *webrtc.PeerConnection {
	if target == livekit.SignalTarget_PUBLISHER {
		return r.publisher
	}
	return r.subscriber
}

// takeCandidate adds an ICE candidate of the SFU, or keeps it until the SDP comes that it belongs to.
func (r *Room) takeCandidate(t *livekit.TrickleRequest) {
	pc := r.peer(t.GetTarget())
	var c webrtc.ICECandidateInit
	if pc == nil || json.Unmarshal([]byte(t.GetCandidateInit()), &c) != nil || c.Candidate == "" {
		r.counters.stray.Add(1)
		return
	}
	if pc.RemoteDescription() == nil {
		if len(r.pending[t.GetTarget()]) >= maxCandidates {
			r.counters.refused.Add(1)
			return
		}
		r.pending[t.GetTarget()] = append(r.pending[t.GetTarget()], c)
		return
	}
	r.addCandidate(pc, c)
}

func (r *Room) addPending(target livekit.SignalTarget) {
	for _, c := range r.pending[target] {
		r.addCandidate(r.peer(target), c)
	}
	delete(r.pending, target)
}

func (r *Room) addCandidate(pc *webrtc.PeerConnection, c webrtc.ICECandidateInit) {
	for _, candidate := range append(r.ipv6.candidates(c.Candidate), c.Candidate) {
		c.Candidate = candidate
		if err := pc.AddICECandidate(c); err != nil {
			r.counters.stray.Add(1)
			r.log.Debug().Err(err).Msg("Candidate of the SFU could not be used")
		}
	}
}

package sfu

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"unicode"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/webrtc/v4"
	"google.golang.org/protobuf/proto"

	"multifactorymodel.org/ewindow/callmedia/bandwidth"
)

// signals are messages that an SFU sends, and some that it should not send.
func signals() []*livekit.SignalResponse {
	participant := &livekit.ParticipantInfo{Sid: "PA_1", Identity: "@a:b:C", JoinedAtMs: 1, Tracks: []*livekit.TrackInfo{
		{Sid: "TR_1", Source: livekit.TrackSource_CAMERA, Encryption: livekit.Encryption_GCM}, {Sid: "TR_2", Muted: true}, {},
	}}
	again := proto.CloneOf(participant)
	again.Sid, again.JoinedAtMs = "PA_2", 2
	gone := &livekit.ParticipantInfo{Sid: "PA_2", State: livekit.ParticipantInfo_DISCONNECTED}
	update := func(p ...*livekit.ParticipantInfo) *livekit.SignalResponse {
		return &livekit.SignalResponse{Message: &livekit.SignalResponse_Update{Update: &livekit.ParticipantUpdate{Participants: p}}}
	}
	return []*livekit.SignalResponse{
		{Message: &livekit.SignalResponse_Join{Join: &livekit.JoinResponse{
			Participant: &livekit.ParticipantInfo{Sid: "PA_0", Identity: "me"}, OtherParticipants: []*livekit.ParticipantInfo{participant},
			IceServers: []*livekit.ICEServer{
				{Urls: []string{"turn:a.example:3478?transport=udp", "turn:", "x"}, Username: "u", Credential: "c"}, {Urls: []string{"stun:a.example"}},
			},
			SifTrailer: []byte("trailer"), PingInterval: 5, PingTimeout: 15,
		}}},
		{Message: &livekit.SignalResponse_Join{Join: &livekit.JoinResponse{}}},
		update(participant), update(participant, again, gone), update(again, participant), update(&livekit.ParticipantInfo{}),
		{Message: &livekit.SignalResponse_Offer{Offer: &livekit.SessionDescription{Type: "offer", Sdp: "v=0\r\n", Id: 1}}},
		{Message: &livekit.SignalResponse_Answer{Answer: &livekit.SessionDescription{Type: "offer"}}},
		{Message: &livekit.SignalResponse_Trickle{Trickle: &livekit.TrickleRequest{CandidateInit: `{"candidate":"candidate:1 1 udp 1 127.0.0.1 1 typ host"}`}}},
		{Message: &livekit.SignalResponse_TrackPublished{TrackPublished: &livekit.TrackPublishedResponse{Cid: "c", Track: &livekit.TrackInfo{Sid: "TR_9"}}}},
		{Message: &livekit.SignalResponse_Leave{Leave: &livekit.LeaveRequest{Reason: livekit.DisconnectReason_DUPLICATE_IDENTITY}}},
		{Message: &livekit.SignalResponse_SubscribedQualityUpdate{SubscribedQualityUpdate: &livekit.SubscribedQualityUpdate{TrackSid: "TR_9"}}},
	}
}

// FuzzSignal reads messages that anybody may have written. An accepted message is within bounds. The events that participants makes of it are in
// order: nobody leaves who has not joined, and nobody joins twice.
func FuzzSignal(f *testing.F) {
	for _, m := range signals() {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{})
	f.Add([]byte{0xff})
	f.Add([]byte{0xfa, 0x7f, 0}) // a kind of message that nobody knows
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeSignal(data)
		if err != nil {
			if m != nil {
				t.Fatalf("%v came with the error %v", m, err)
			}
			return
		}
		if m.Message == nil || len(data) > maxMessage {
			t.Fatal("nothing, or too much, was accepted")
		}
		again, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := decodeSignal(again); err != nil || !proto.Equal(m, n) {
			t.Fatalf("written anew it is %v, %v", n, err)
		}
		participants := m.GetUpdate().GetParticipants()
		if j := m.GetJoin(); j != nil {
			participants = j.GetOtherParticipants()
			servers, _ := iceServers(j.GetIceServers())
			if _, err := webrtc.NewAPI().NewPeerConnection(webrtc.Configuration{ICEServers: servers}); err != nil {
				t.Fatalf("pion refuses the ICE servers %v: %v", servers, err)
			}
			if j.GetParticipant().GetIdentity() == "" || len(j.GetSifTrailer()) > maxTrailer {
				t.Fatalf("accepted %v", j)
			}
		}
		checkParticipantsUpdate(t, participants)
		if c := m.GetTrickle().GetCandidateInit(); c != "" {
			var init webrtc.ICECandidateInit
			if json.Unmarshal([]byte(c), &init) == nil && len(init.Candidate) > maxCandidate {
				t.Fatal("a long candidate was accepted")
			}
		}
	})
}

// checkParticipantsUpdate applies one update twice, and then updates in which everybody has left.
func checkParticipantsUpdate(t *testing.T, infos []*livekit.ParticipantInfo) {
	t.Helper()
	var refused atomic.Uint64
	r := newParticipants("PA_0", "me", &refused)
	people, tracks := make(map[string]bool), make(map[string]int)
	emit := func(e Event) {
		switch e := e.(type) {
		case ParticipantJoined:
			if people[e.ParticipantSID] || e.Identity == "" || e.Identity == "me" || e.ParticipantSID == "PA_0" {
				t.Fatalf("%+v joins", e)
			}
			people[e.ParticipantSID] = true
		case ParticipantLeft:
			if !people[e.ParticipantSID] {
				t.Fatalf("%+v leaves without having come", e)
			}
			delete(people, e.ParticipantSID)
		case TrackPublished:
			if !people[e.ParticipantSID] || e.TrackSID == "" {
				t.Fatalf("%+v of nobody", e)
			}
			tracks[e.Identity+"/"+e.TrackSID]++
		case TrackGone:
			if tracks[e.Identity+"/"+e.TrackSID]--; tracks[e.Identity+"/"+e.TrackSID] < 0 {
				t.Fatalf("%+v without having come", e)
			}
		case TrackMuted:
			if tracks[e.Identity+"/"+e.TrackSID] == 0 {
				t.Fatalf("%+v without having come", e)
			}
		}
	}
	r.update(infos, emit)
	r.update(infos, emit)
	identities := make(map[string]bool)
	for _, m := range r.bySID {
		if identities[m.identity] || len(m.tracks) > maxTracks {
			t.Fatalf("there is the participant %+v", m)
		}
		identities[m.identity] = true
	}
	for sid := range r.bySID {
		r.update([]*livekit.ParticipantInfo{{Sid: sid, State: livekit.ParticipantInfo_DISCONNECTED}}, emit)
	}
	if len(people) != 0 || len(r.bySID) != 0 {
		t.Fatalf("%d are left over", len(people))
	}
	for name, n := range tracks {
		if n != 0 {
			t.Fatalf("the track %q is left over", name)
		}
	}
}

// FuzzOffer answers any offer, as a room does. pion must not panic, and a connection without tracks of its own must not send.
func FuzzOffer(f *testing.F) {
	peer, err := newPeerConnection(Options{}, nil, nil, nil, bandwidth.NewDownlink(0))
	if err != nil {
		f.Fatal(err)
	}
	defer peer.Close()
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
		if _, err := peer.AddTransceiverFromKind(kind); err != nil {
			f.Fatal(err)
		}
	}
	offer, err := peer.CreateOffer(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(offer.SDP)
	f.Add(strings.ReplaceAll(offer.SDP, "a=mid:0", "a=mid:"))
	f.Add(strings.ReplaceAll(offer.SDP, "VP8/90000", "VP8/"))
	f.Add(strings.ReplaceAll(offer.SDP, "m=video 9", "m=video 0"))
	f.Add("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, sdp string) {
		if checkSDP(&livekit.SessionDescription{Type: "offer", Sdp: sdp}, "offer") != nil {
			return
		}
		pc, err := newPeerConnection(Options{}, nil, nil, nil, bandwidth.NewDownlink(0))
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		if pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: sdp}) != nil {
			return
		}
		answer, err := pc.CreateAnswer(nil)
		if err != nil {
			return
		}
		if strings.Contains(answer.SDP, "a=sendrecv") || strings.Contains(answer.SDP, "a=sendonly") {
			t.Fatalf("the answer sends: %s", answer.SDP)
		}
	})
}

// FuzzQuoted prepares any text for an error. No part of the token is left in it, and no character that can't be printed.
func FuzzQuoted(f *testing.F) {
	f.Add("invalid token: eyJhbGciOi.eyJpc3MiOi.SY0ANUMye9, error: x", "eyJhbGciOi.eyJpc3MiOi.SY0ANUMye9")
	f.Add("\x00\x1b[31m\u202e\xff", "t")
	f.Add(strings.Repeat("ü", 1000), "abcdefgh.ü")
	f.Fuzz(func(t *testing.T, text, token string) {
		out := quoted([]byte(text), token)
		for _, part := range strings.Split(token, ".") {
			if len(part) >= 8 && strings.Contains(out, part) && !strings.Contains(part, "…") {
				t.Fatalf("%q holds %q", out, part)
			}
		}
		if len([]rune(out)) > 200 || strings.ContainsFunc(out, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%q can't be printed", out)
		}
	})
}

func TestSignalURL(t *testing.T) {
	for base, want := range map[string]string{
		"wss://a.example":                  "wss://a.example/rtc?",
		"https://a.example/livekit/sfu/":   "wss://a.example/livekit/sfu/rtc?",
		"http://127.0.0.1:7880?x=y#z":      "ws://127.0.0.1:7880/rtc?",
		"ws://[::1]:7880":                  "ws://[::1]:7880/rtc?",
		"ftp://a":                          "",
		"a.example":                        "",
		"ws://user:password@a.example":     "",
		"ws:":                              "",
		"wss://a.example/%zz":              "",
		"javascript:alert(1)//wss://a":     "",
		"wss://a.example:notaport/livekit": "",
	} {
		u, err := signalURL(base)
		if want == "" {
			if err == nil || strings.Contains(err.Error(), "password") {
				t.Errorf("%s: %v, %v", base, u, err)
			}
			continue
		}
		if err != nil || !strings.HasPrefix(u.String(), want) || u.Query().Get("protocol") != "17" || u.Query().Has("access_token") {
			t.Errorf("%s: %v, %v", base, u, err)
		}
	}
}

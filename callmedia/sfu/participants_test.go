package sfu

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/livekit/protocol/livekit"
	"google.golang.org/protobuf/proto"
)

// TestBounds sends more participants, more tracks and longer names than the bounds allow. They are left out and counted, and the room goes on
// with the rest: otherwise one participant could take the SFU from all others.
func TestBounds(t *testing.T) {
	busy := &livekit.ParticipantInfo{Sid: "PA_busy", Identity: "busy"}
	for i := range maxTracks + 5 {
		busy.Tracks = append(busy.Tracks, &livekit.TrackInfo{Sid: fmt.Sprint("TR_", i)})
	}
	long := strings.Repeat("x", maxName+1)
	infos := []*livekit.ParticipantInfo{
		busy, {Sid: long, Identity: "a"}, {Sid: "PA_long", Identity: long}, {Sid: "PA_track", Identity: "b", Tracks: []*livekit.TrackInfo{{Sid: long}}},
	}
	for i := range maxParticipants {
		infos = append(infos, &livekit.ParticipantInfo{Sid: fmt.Sprint("PA_", i), Identity: fmt.Sprint("p", i)})
	}
	own := &livekit.ParticipantInfo{Sid: "PA_own", Identity: "own"}
	for _, m := range []*livekit.SignalResponse{
		{Message: &livekit.SignalResponse_Join{Join: &livekit.JoinResponse{Participant: own, OtherParticipants: infos}}},
		{Message: &livekit.SignalResponse_Update{Update: &livekit.ParticipantUpdate{Participants: infos}}},
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeSignal(data); err != nil {
			t.Errorf("a full room ends the connection: %v", err)
		}
	}
	var refused atomic.Uint64
	p := newParticipants("PA_own", "own", &refused)
	crowds := 0
	p.update(infos, func(e Event) {
		if e == (ParticipantJoined{}) {
			crowds++
		}
	})
	if crowds != 1 {
		t.Errorf("said %d times that there are too many participants", crowds)
	}
	if n := len(p.bySID["PA_busy"].tracks); n != maxTracks {
		t.Errorf("%d tracks of one participant are known", n)
	}
	// All but the two with long names and the three at the end.
	if n := len(p.bySID); n != maxParticipants-1 || p.bySID["PA_track"] == nil || len(p.bySID["PA_track"].tracks) != 0 {
		t.Errorf("%d participants are known", n)
	}
	if n := refused.Load(); n != 5+2+1+3 {
		t.Errorf("%d were counted", n)
	}
}

// TestAnnouncedCodec announces a track whose codec becomes known later, and then changes.
func TestAnnouncedCodec(t *testing.T) {
	var refused atomic.Uint64
	p := newParticipants("PA_own", "own", &refused)
	var got []string
	for _, info := range []*livekit.TrackInfo{
		{Sid: "TR_1"}, {Sid: "TR_1", MimeType: "video/VP9"}, {Sid: "TR_1", MimeType: "video/VP9", Muted: true},
		{Sid: "TR_1", MimeType: "video/VP8", Codecs: []*livekit.SimulcastCodecInfo{{MimeType: "video/AV1"}, {MimeType: "video/VP8"}}},
	} {
		p.update([]*livekit.ParticipantInfo{{Sid: "PA_1", Identity: "a", Tracks: []*livekit.TrackInfo{info}}}, func(e Event) {
			switch e := e.(type) {
			case TrackPublished:
				got = append(got, e.MIMEType)
			case TrackMuted:
				got = append(got, "muted")
			}
		})
	}
	if want := []string{"", "video/VP9", "muted", "video/AV1"}; !slices.Equal(got, want) {
		t.Errorf("announced %q, want %q", got, want)
	}
}

// TestAnnouncedAgain lets an SFU take a track off its list and put it back. The track is not announced twice: each time a reader would start, and
// none would end.
func TestAnnouncedAgain(t *testing.T) {
	r := &Room{remotes: map[string]*remoteTrack{"TR_1": {sid: "TR_1", participant: "PA_1"}}, events: make(chan Event, eventQueue)}
	r.others = newParticipants("PA_own", "own", &r.counters.refused)
	subscribed := 0
	for range 3 {
		for _, tracks := range [][]*livekit.TrackInfo{{{Sid: "TR_1"}}, nil} {
			r.others.update([]*livekit.ParticipantInfo{{Sid: "PA_1", Identity: "a", Tracks: tracks}}, r.emit)
			r.announce()
		}
	}
	for len(r.events) > 0 {
		if _, ok := (<-r.events).(TrackSubscribed); ok {
			subscribed++
		}
	}
	if subscribed != 1 {
		t.Errorf("the track was announced %d times", subscribed)
	}
}

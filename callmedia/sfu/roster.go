package sfu

import (
	"sync/atomic"

	"github.com/livekit/protocol/livekit"
)

// roster is who else is in the room and what they announce, from join and update messages. It belongs to the room's
// goroutine and does no I/O.
type roster struct {
	own      string // our own participant SID
	identity string // our own identity
	members  map[string]*member
	refused  *atomic.Uint64 // participants and tracks above the bounds or without id
}

type member struct {
	sid      string
	identity string
	joined   int64 // ms
	tracks   map[string]*livekit.TrackInfo
}

func newRoster(own, identity string, refused *atomic.Uint64) *roster {
	return &roster{own: own, identity: identity, members: make(map[string]*member), refused: refused}
}

// update applies the news of a message and emits what they mean.
func (r *roster) update(infos []*livekit.ParticipantInfo, emit func(Event)) {
	for _, info := range infos {
		sid, identity := info.GetSid(), info.GetIdentity()
		if sid == r.own || identity == r.identity {
			continue
		}
		known := r.members[sid]
		if info.GetState() == livekit.ParticipantInfo_DISCONNECTED {
			if known != nil {
				r.remove(known, emit)
			}
			continue
		}
		if known == nil {
			if known = r.add(info, emit); known == nil {
				continue
			}
		}
		r.setTracks(known, info.GetTracks(), emit)
	}
}

// add takes in a participant; nil when it is not acceptable.
func (r *roster) add(info *livekit.ParticipantInfo, emit func(Event)) *member {
	m := &member{sid: info.GetSid(), identity: info.GetIdentity(), joined: info.GetJoinedAtMs(),
		tracks: make(map[string]*livekit.TrackInfo)}
	if m.joined == 0 {
		m.joined = info.GetJoinedAt() * 1000
	}
	if m.sid == "" || m.identity == "" {
		r.refused.Add(1)
		return nil
	}
	for _, other := range r.members {
		if other.identity != m.identity {
			continue
		}
		// The same participant came back before its old connection was seen to end. A late word about the old one must not
		// push the new one out.
		if m.joined < other.joined {
			return nil
		}
		r.remove(other, emit)
		break
	}
	if len(r.members) >= maxParticipants {
		r.refused.Add(1)
		return nil
	}
	r.members[m.sid] = m
	emit(ParticipantJoined{Identity: m.identity, ParticipantSID: m.sid})
	return m
}

func (r *roster) remove(m *member, emit func(Event)) {
	for sid := range m.tracks {
		emit(TrackGone{Identity: m.identity, TrackSID: sid})
	}
	delete(r.members, m.sid)
	emit(ParticipantLeft{Identity: m.identity, ParticipantSID: m.sid})
}

// setTracks replaces the participant's list of tracks.
func (r *roster) setTracks(m *member, infos []*livekit.TrackInfo, emit func(Event)) {
	still := make(map[string]bool, len(infos))
	for _, t := range infos {
		still[t.GetSid()] = true
	}
	for sid := range m.tracks {
		if !still[sid] {
			delete(m.tracks, sid)
			emit(TrackGone{Identity: m.identity, TrackSID: sid})
		}
	}
	for _, t := range infos {
		before, known := m.tracks[t.GetSid()]
		if !known && (t.GetSid() == "" || len(m.tracks) >= maxTracks) {
			r.refused.Add(1)
			continue
		}
		m.tracks[t.GetSid()] = t
		switch {
		case !known:
			emit(TrackPublished{Identity: m.identity, ParticipantSID: m.sid, TrackSID: t.GetSid(), Source: t.GetSource(),
				Kind: t.GetType(), Encryption: t.GetEncryption(), Muted: t.GetMuted()})
		case before.GetMuted() != t.GetMuted():
			emit(TrackMuted{Identity: m.identity, TrackSID: t.GetSid(), Source: t.GetSource(), Muted: t.GetMuted()})
		}
	}
}

// find gives the announcement of a track and who made it.
func (r *roster) find(participant, track string) (*member, *livekit.TrackInfo) {
	if m := r.members[participant]; m != nil {
		return m, m.tracks[track]
	}
	return nil, nil
}

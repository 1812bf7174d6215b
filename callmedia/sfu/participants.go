package sfu

import (
	"sync/atomic"

	"github.com/livekit/protocol/livekit"
)

// participants is who else is in the room, and which tracks they announce. It is made from the SFU's join and update messages. It belongs to
// the room's goroutine and does no I/O.
type participants struct {
	own      string // our own participant SID
	identity string // our own identity
	bySID    map[string]*participant
	crowded  bool           // there was no room for somebody
	refused  *atomic.Uint64 // counts participants and tracks above the bounds or without id
}

type participant struct {
	sid      string
	identity string
	joined   int64 // ms
	tracks   map[string]*livekit.TrackInfo
}

func newParticipants(own, identity string, refused *atomic.Uint64) *participants {
	return &participants{own: own, identity: identity, bySID: make(map[string]*participant), refused: refused}
}

// update applies the participants of a message and emits what has changed. What is above the bounds is left out and counted. It does not end the
// room: any participant can publish many tracks, and all others would then lose the SFU.
func (p *participants) update(infos []*livekit.ParticipantInfo, emit func(Event)) {
	if more := len(infos) - (maxParticipants + 1); more > 0 {
		p.refused.Add(uint64(more))
		infos = infos[:maxParticipants+1]
		p.crowd(emit)
	}
	for _, info := range infos {
		sid, identity := info.GetSid(), info.GetIdentity()
		if sid == p.own || identity == p.identity {
			continue
		}
		known := p.bySID[sid]
		if info.GetState() == livekit.ParticipantInfo_DISCONNECTED {
			if known != nil {
				p.remove(known, emit)
			}
			continue
		}
		if known == nil {
			if known = p.add(info, emit); known == nil {
				continue
			}
		}
		p.setTracks(known, info.GetTracks(), emit)
	}
}

// add adds a participant. It returns nil when the participant is not acceptable.
func (p *participants) add(info *livekit.ParticipantInfo, emit func(Event)) *participant {
	m := &participant{sid: info.GetSid(), identity: info.GetIdentity(), joined: info.GetJoinedAtMs(),
		tracks: make(map[string]*livekit.TrackInfo)}
	if m.joined == 0 {
		m.joined = info.GetJoinedAt() * 1000
	}
	if m.sid == "" || m.identity == "" || len(m.sid) > maxName || len(m.identity) > maxName {
		p.refused.Add(1)
		return nil
	}
	for _, other := range p.bySID {
		if other.identity != m.identity {
			continue
		}
		// The same participant has come back before its old connection was seen to end. A late message about the old connection must not
		// replace the new one.
		if m.joined < other.joined {
			return nil
		}
		p.remove(other, emit)
		break
	}
	if len(p.bySID) >= maxParticipants {
		p.refused.Add(1)
		p.crowd(emit)
		return nil
	}
	p.bySID[m.sid] = m
	emit(ParticipantJoined{Identity: m.identity, ParticipantSID: m.sid})
	return m
}

// crowd emits, once, that there are participants who have no place here. They may stay when others leave, and nothing more is heard of them.
func (p *participants) crowd(emit func(Event)) {
	if !p.crowded {
		p.crowded = true
		emit(ParticipantJoined{})
	}
}

func (p *participants) remove(m *participant, emit func(Event)) {
	for sid := range m.tracks {
		emit(TrackGone{Identity: m.identity, TrackSID: sid})
	}
	delete(p.bySID, m.sid)
	emit(ParticipantLeft{Identity: m.identity, ParticipantSID: m.sid})
}

// setTracks replaces the participant's list of tracks.
func (p *participants) setTracks(m *participant, infos []*livekit.TrackInfo, emit func(Event)) {
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
		if !known && (t.GetSid() == "" || len(t.GetSid()) > maxName || len(m.tracks) >= maxTracks) {
			p.refused.Add(1)
			continue
		}
		m.tracks[t.GetSid()] = t
		switch {
		case !known, mimeType(before) != mimeType(t):
			emit(TrackPublished{Identity: m.identity, ParticipantSID: m.sid, TrackSID: t.GetSid(), Source: t.GetSource(),
				Kind: t.GetType(), Encryption: t.GetEncryption(), Muted: t.GetMuted(), MIMEType: mimeType(t)})
		case before.GetMuted() != t.GetMuted():
			emit(TrackMuted{Identity: m.identity, TrackSID: t.GetSid(), Source: t.GetSource(), Muted: t.GetMuted()})
		}
	}
}

// mimeType is a track's codec, and if it is sent in several codecs the preferred one.
func mimeType(t *livekit.TrackInfo) string {
	if codecs := t.GetCodecs(); len(codecs) > 0 && codecs[0].GetMimeType() != "" {
		return codecs[0].GetMimeType()
	}
	return t.GetMimeType()
}

// find returns a track's announcement and who made it.
func (p *participants) find(participant, track string) (*participant, *livekit.TrackInfo) {
	if m := p.bySID[participant]; m != nil {
		return m, m.tracks[track]
	}
	return nil, nil
}

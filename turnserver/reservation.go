package turnserver

import (
	"crypto/rand"
	"net/netip"
	"time"
)

// reservationLifetime is how long a reserved port is kept (RFC 8656, section 7.2).
const reservationLifetime = 30 * time.Second

// reservation is a relay socket that has no allocation yet. A port that is reserved for RTCP (the one after an even port) counts as
// an allocation of its user, so that nobody takes more ports this way.
type reservation struct {
	fd      int
	relayed netip.AddrPort
	reach   *reach
	quota   *quota
	until   time.Time
}

// socketFor opens the relay socket that an Allocate asks for, or returns the reserved one that its token stands for. It returns the
// error code if there is none. If the request also reserves the next port, token is what the client can claim it with.
func (s *Server) socketFor(now time.Time, m *message, family byte, user string) (r *reservation, token []byte, code int) {
	if m.token != nil {
		if r = s.redeem(now, [tokenSize]byte(m.token), user); r == nil {
			return nil, nil, codeInsufficientCapacity
		}
		return r, nil, 0
	}
	sockets := 1
	if m.reserve {
		sockets = 2
	}
	q := s.acquireQuota(user, sockets)
	if q == nil {
		s.counters.refusedQuota.Add(1)
		s.quotaLog.Warn().Str("user", user).Msg("An allocation is refused: the user has too many, or all users together have")
		return nil, nil, codeQuotaReached
	}
	reach := s.reach.Load()
	fd, next, relayed, err := s.relaySocket(reach.relays[family], m.evenPort, m.reserve)
	if err != nil {
		s.releaseQuota(q, sockets)
		s.cfg.Log.Warn().Err(err).Msg("No relay socket for an allocation")
		return nil, nil, codeInsufficientCapacity
	}
	if m.reserve {
		token = s.reserve(&reservation{next, netip.AddrPortFrom(relayed.Addr(), relayed.Port()+1), reach, q, now.Add(reservationLifetime)})
	}
	return &reservation{fd: fd, relayed: relayed, reach: reach, quota: q}, token, 0
}

// reserve keeps a socket, and returns the token for it.
func (s *Server) reserve(r *reservation) []byte {
	var token [tokenSize]byte
	_, _ = rand.Read(token[:]) // it never fails
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved[token] = r
	return token[:]
}

// redeem returns what was reserved under a token, to the user whose quota it counts for. It returns nil if there is nothing.
func (s *Server) redeem(now time.Time, token [tokenSize]byte, user string) *reservation {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.reserved[token]
	if r == nil || r.quota.user != user || !now.Before(r.until) || r.reach != s.reach.Load() {
		return nil
	}
	delete(s.reserved, token)
	return r
}

// endReservations closes the reserved sockets for which over returns true.
func (s *Server) endReservations(over func(*reservation) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token, r := range s.reserved {
		if over(r) {
			delete(s.reserved, token)
			closeSocket(r.fd)
			s.releaseQuotaLocked(r.quota, 1)
		}
	}
}

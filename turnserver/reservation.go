package turnserver

import (
	"crypto/rand"
	"net/netip"
	"time"
)

// reservationTime is how long a port is kept for who holds its token (RFC 8656, section 7.2).
const reservationTime = 30 * time.Second

// reservation is a relay socket that has no allocation yet. What is kept for a token, the port after an even one, for RTCP, counts as an allocation
// for its user's limit and for that of all, so that nobody takes more ports this way.
type reservation struct {
	fd      int
	relayed netip.AddrPort
	place   *account
	until   time.Time
}

// socketFor opens what an Allocate asks for, or hands out what was reserved; else code is why not. Where the port after it was to be reserved
// there is a token for that.
func (s *Server) socketFor(now time.Time, m *message, family byte, user string) (r *reservation, token []byte, code int) {
	if m.token != nil {
		if r = s.redeem(now, [tokenSize]byte(m.token), user); r == nil {
			return nil, nil, codeInsufficientCapacity
		}
		return r, nil, 0
	}
	places := 1
	if m.reserve {
		places = 2
	}
	place := s.takePlaces(user, places)
	if place == nil {
		s.counters.refusedQuota.Add(1)
		return nil, nil, codeQuotaReached
	}
	fd, next, relayed, err := s.relaySocket(family, m.evenPort, m.reserve)
	if err != nil {
		s.releasePlaces(place, places)
		s.cfg.Log.Warn().Err(err).Msg("No relay socket for an allocation")
		return nil, nil, codeInsufficientCapacity
	}
	if m.reserve {
		token = s.reserve(&reservation{next, netip.AddrPortFrom(relayed.Addr(), relayed.Port()+1), place, now.Add(reservationTime)})
	}
	return &reservation{fd: fd, relayed: relayed, place: place}, token, 0
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

// redeem hands out what was reserved, to the user whose place it has; nil when there is nothing.
func (s *Server) redeem(now time.Time, token [tokenSize]byte, user string) *reservation {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.reserved[token]
	if r == nil || r.place.user != user || !now.Before(r.until) {
		return nil
	}
	delete(s.reserved, token)
	return r
}

// endReservations closes what was reserved and is over.
func (s *Server) endReservations(over func(*reservation) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token, r := range s.reserved {
		if over(r) {
			delete(s.reserved, token)
			closeSocket(r.fd)
			s.release(r.place, 1)
		}
	}
}

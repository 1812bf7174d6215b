package turnserver

import (
	"cmp"
	"crypto/md5" //nolint:gosec // the protocol's hash
	"encoding/binary"
	"net/netip"
	"time"
)

// Error codes (RFC 8656, section 19; RFC 8489, section 14.8).
const (
	codeBadRequest           = 400
	codeUnauthenticated      = 401
	codeForbidden            = 403
	codeUnknownAttribute     = 420
	codeAllocationMismatch   = 437
	codeStaleNonce           = 438
	codeFamilyNotSupported   = 440
	codeWrongCredentials     = 441
	codeUnsupportedTransport = 442
	codeFamilyMismatch       = 443
	codeQuotaReached         = 486
	codeInsufficientCapacity = 508
)

// handle handles one STUN message of a client, and appends the answer to p if there is one. Only the owner of the client may call it.
func (s *Server) handle(p []byte, now time.Time, c *client, m *message) []byte {
	switch m.class {
	case classRequest:
	case classIndication:
		if m.method == methodSend {
			s.relayIndication(now, c, m)
		}
		return p
	default:
		return p
	}
	switch m.method {
	case methodBinding:
		a := begin(p, m.method, classSuccess, m.transaction)
		a.addXOR(attrXORMappedAddress, c.source.addrPort())
		return a.done(nil)
	case methodAllocate, methodRefresh, methodCreatePermission, methodChannelBind:
	default:
		return m.refuse(p, codeBadRequest).done(nil)
	}
	key, user, code := s.authenticate(now, c, m)
	if code != 0 {
		return s.challenge(p, now, c, m, code)
	}
	if len(m.unknown) > 0 {
		a := m.refuse(p, codeUnknownAttribute)
		var list []byte
		for _, kind := range m.unknown {
			list = binary.BigEndian.AppendUint16(list, kind)
		}
		a.add(attrUnknownAttributes, list)
		return a.done(key)
	}
	switch {
	case !s.allowed(user):
		s.counters.refusedLogins.Add(1)
		code = codeForbidden
	case m.method == methodAllocate:
		code = s.handleAllocate(now, c, m, key, user)
	case c.alloc == nil:
		code = codeAllocationMismatch
	case m.malformed:
		code = codeBadRequest
	case m.method == methodRefresh:
		return s.handleRefresh(p, now, c, m, key)
	case m.method == methodCreatePermission:
		code = s.handlePermission(now, c.alloc, m)
	default:
		code = s.handleBind(now, c.alloc, m)
	}
	if code != 0 {
		return m.refuse(p, code).done(key)
	}
	a := begin(p, m.method, classSuccess, m.transaction)
	if m.method == methodAllocate {
		a.addXOR(attrRelayedAddress, c.alloc.relayed)
		if c.alloc.token != nil {
			a.add(attrReservationToken, c.alloc.token)
		}
		a.addNumber(attrLifetime, c.alloc.granted)
		a.addXOR(attrXORMappedAddress, c.source.addrPort())
	}
	return a.done(key)
}

// refuse begins an error response with its ERROR-CODE. It has no reason phrase, since no program reads one.
func (m *message) refuse(p []byte, code int) *answer {
	a := begin(p, m.method, classError, m.transaction)
	a.addNumber(attrErrorCode, uint32(code/100)<<8|uint32(code%100))
	return a
}

// challenge is an error response that tells the client how to authenticate (RFC 8489, section 9.2.4). It is short: anyone can have it
// sent to anyone.
func (s *Server) challenge(p []byte, now time.Time, c *client, m *message, code int) []byte {
	a := m.refuse(p, code)
	if code != codeBadRequest {
		a.add(attrRealm, []byte(s.cfg.Realm))
		var nonce [nonceSize]byte
		a.add(attrNonce, s.nonces.add(nonce[:0], now, c.source, c.number()))
	}
	return a.done(nil)
}

// authenticate checks a request's signature. It returns the key to sign the answer with, and the user. For a request that is not
// right it returns the error code.
func (s *Server) authenticate(now time.Time, c *client, m *message) (key []byte, user string, code int) {
	switch {
	case !m.signed:
		return nil, "", codeUnauthenticated
	case m.username == nil || m.realm == nil || m.nonce == nil:
		return nil, "", codeBadRequest
	case !s.nonces.valid(m.nonce, now, c.source, c.number()):
		s.counters.staleNonces.Add(1)
		return nil, "", codeStaleNonce
	}
	refused := func(code int) ([]byte, string, int) {
		s.counters.refusedLogins.Add(1)
		return nil, "", code
	}
	if a := c.alloc; a != nil {
		// RFC 8656, section 5: only the user who made an allocation manages it. Credentials that have expired meanwhile are still good
		// for it, since otherwise the call would end with them.
		switch {
		case string(m.username) != a.username:
			return refused(codeWrongCredentials)
		case string(m.realm) != s.cfg.Realm || !m.verify(a.key) || now.After(a.refreshEnd):
			return refused(codeUnauthenticated)
		}
		return a.key, a.quota.user, 0
	}
	username := string(m.username)
	expiry, user, err := parseUsername(username)
	if err != nil || string(m.realm) != s.cfg.Realm || !now.Before(expiry) {
		return refused(codeUnauthenticated)
	}
	for _, secret := range s.secrets {
		sum := md5.Sum([]byte(username + ":" + s.cfg.Realm + ":" + passwordFor(secret, username)))
		if m.verify(sum[:]) {
			return sum[:], user, 0
		}
	}
	return refused(codeUnauthenticated)
}

// allowed says whether a user may be served now.
func (s *Server) allowed(user string) bool { return s.cfg.Allowed == nil || s.cfg.Allowed(user) }

// handleAllocate makes an allocation (RFC 8656, section 7.2). It returns 0 or the error code.
func (s *Server) handleAllocate(now time.Time, c *client, m *message, key []byte, user string) int {
	if c.alloc != nil {
		if string(m.transaction) == string(c.alloc.transaction[:]) {
			return 0 // the client sends it again: the answer was lost
		}
		return codeAllocationMismatch
	}
	family := cmp.Or(m.family, familyIPv4)
	switch {
	case m.transport == 0 || m.malformed || m.token != nil && (m.evenPort || m.family != 0):
		return codeBadRequest
	case m.transport != protocolUDP:
		// RFC 6062 (TCP relaying) would let strangers open connections from this machine.
		s.counters.refusedTransports.Add(1)
		return codeUnsupportedTransport
	case m.token == nil && len(s.reach.Load().relays[family]) == 0:
		return codeFamilyNotSupported
	case s.draining.Load():
		return codeInsufficientCapacity
	}
	r, token, code := s.socketFor(now, m, family, user)
	if code != 0 {
		return code
	}
	lifetime := lifetimeFor(m)
	expiry, _, _ := parseUsername(string(m.username))
	a := &allocation{
		fd: r.fd, relayed: r.relayed, reach: r.reach, family: familyOf(r.relayed.Addr()), username: string(m.username), quota: r.quota, key: key, born: now,
		first: -1, expires: now.Add(lifetime), refreshEnd: expiry.Add(afterExpiry), transaction: [16]byte(m.transaction), granted: uint32(lifetime / time.Second),
		token: token,
	}
	a.peers.Store(newPeers())
	s.counters.created.Add(1)
	c.adopt(a)
	s.cfg.Log.Info().Str("user", user).Stringer("client", c.source.addrPort()).Str("transport", c.transport()).
		Stringer("relayed", r.relayed).Msg("Allocation made")
	return 0
}

// familyOf is TURN's number for an address's family.
func familyOf(host netip.Addr) byte {
	if host.Unmap().Is4() {
		return familyIPv4
	}
	return familyIPv6
}

// lifetimeFor returns the lifetime that a request is granted, whether or not it asks for one (RFC 8656, section 7.2).
func lifetimeFor(m *message) time.Duration {
	if !m.hasLifetime {
		return defaultLifetime
	}
	return min(max(time.Duration(m.lifetime)*time.Second, defaultLifetime), maxLifetime)
}

// handleRefresh prolongs an allocation, or ends it (RFC 8656, section 8).
func (s *Server) handleRefresh(p []byte, now time.Time, c *client, m *message, key []byte) []byte {
	if m.family != 0 && m.family != c.alloc.family {
		return m.refuse(p, codeFamilyMismatch).done(key)
	}
	lifetime := time.Duration(0)
	if m.hasLifetime && m.lifetime == 0 {
		c.end("closed by the client")
	} else {
		lifetime = min(lifetimeFor(m), c.alloc.refreshEnd.Sub(now))
		c.alloc.expires = now.Add(lifetime)
	}
	a := begin(p, m.method, classSuccess, m.transaction)
	a.addNumber(attrLifetime, uint32(lifetime/time.Second))
	return a.done(key)
}

// handlePermission installs permissions, all or none (RFC 8656, section 10). It returns 0 or the error code.
func (s *Server) handlePermission(now time.Time, a *allocation, m *message) int {
	if m.peerCount == 0 {
		return codeBadRequest
	}
	var hosts [maxPeers]netip.Addr
	for i, peer := range m.peers[:m.peerCount] {
		if !s.reach.Load().policy.address(peer.Addr()) {
			s.counters.refusedPeers.Add(1)
			return codeForbidden
		}
		if familyOf(peer.Addr()) != a.family {
			return codeFamilyMismatch
		}
		hosts[i] = peer.Addr()
	}
	if !a.permit(now, hosts[:m.peerCount]...) {
		return codeInsufficientCapacity
	}
	return 0
}

// handleBind binds a channel (RFC 8656, section 12). It returns 0 or the error code.
func (s *Server) handleBind(now time.Time, a *allocation, m *message) int {
	if m.peerCount == 0 || m.channel < 0x4000 || m.channel > 0x7fff {
		return codeBadRequest
	}
	if !s.reach.Load().policy.peer(m.peers[0]) {
		s.counters.refusedPeers.Add(1)
		return codeForbidden
	}
	if familyOf(m.peers[0].Addr()) != a.family {
		return codeFamilyMismatch
	}
	switch a.bind(now, m.channel, m.peers[0]) {
	case clash:
		return codeBadRequest
	case full:
		return codeInsufficientCapacity
	}
	return 0
}

// relayIndication sends the data of a Send indication to its peer (RFC 8656, section 11). An indication is never answered, so a wrong
// one is only counted.
func (s *Server) relayIndication(now time.Time, c *client, m *message) {
	a := c.alloc
	if a == nil || m.peerCount == 0 || !m.hasData || m.malformed || len(m.unknown) > 0 { // RFC 8489, section 6.3.2, on the last
		s.counters.malformed.Add(1)
		return
	}
	peer := m.peers[0]
	if familyOf(peer.Addr()) != a.family || !s.reach.Load().policy.peer(peer) || !a.peers.Load().permitted(now.UnixNano(), peer.Addr().As16()) {
		s.counters.droppedPeer.Add(1)
		return
	}
	var name sockaddr
	name.set(peer, systemFamily(a.family))
	a.send(now.UnixNano(), &name, m.data, m.dontFragment)
}

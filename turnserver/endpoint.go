package turnserver

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/turn/v4"
)

// inboundSize is the largest message taken from a client, in bytes. Relayed media stays below an Ethernet frame.
const inboundSize = 2048

// packets is what an endpoint reads and writes: the datagrams of a UDP socket or the messages of one stream.
type packets interface {
	net.PacketConn
	// expect is called before each read and when an allocation ended. Only streams care.
	expect(loggedIn bool)
	// retries tells whether reading may go on after this error.
	retries(error) bool
}

// datagrams is a UDP socket with many clients.
type datagrams struct{ *net.UDPConn }

func (d *datagrams) expect(bool) {}

// retries goes on after all but the end: one bad datagram (an ICMP error, say) must not stop the listener for all.
func (d *datagrams) retries(err error) bool { return !errors.Is(err, net.ErrClosed) }

// endpoint stands between one socket or stream and a pion server of its own. With a server for each endpoint its callbacks
// know which one they serve, and a stream's nonces are good for this stream only.
//
// pion reads and handles messages in one goroutine, so that what a callback learns belongs to the message read last.
type endpoint struct {
	packets
	server  *Server
	limiter *limiter

	// These belong to pion's reading goroutine.
	replays replays
	current digest // MESSAGE-INTEGRITY of the request being handled, if signed, and who sent it
	signed  bool
	source  netip.AddrPort
	pending string // user for whom a place is taken while the allocation is being made
	errors  int    // read errors in a row

	mu    sync.Mutex               // guards owners
	owner map[netip.AddrPort]owner // by client address: who made the allocation
}

// owner is the user of an allocation.
type owner struct{ username, name string }

func newEndpoint(s *Server, p packets, l *limiter) *endpoint {
	return &endpoint{packets: p, server: s, limiter: l, owner: make(map[netip.AddrPort]owner)}
}

// serve hands an endpoint to a pion server. On error the endpoint is closed.
func (s *Server) serve(e *endpoint) error {
	if !s.track(e) {
		return errors.Join(net.ErrClosed, e.Close())
	}
	_, err := turn.NewServer(turn.ServerConfig{
		Realm:         s.cfg.Realm,
		AuthHandler:   e.authenticate,
		QuotaHandler:  e.quota,
		EventHandler:  turn.EventHandler{OnAuth: e.authenticated, OnAllocationCreated: e.created, OnAllocationDeleted: e.deleted},
		InboundMTU:    inboundSize,
		LoggerFactory: loggers{s.cfg.Log},
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn: e, RelayAddressGenerator: relays{s}, PermissionHandler: e.permit,
		}},
	})
	if err != nil {
		s.untrack(e)
		return errors.Join(err, e.Close())
	}
	return nil
}

// ReadFrom gives pion the next message that it should see. An error is the endpoint's end.
func (e *endpoint) ReadFrom(p []byte) (int, net.Addr, error) {
	e.release() // the message before may have been an Allocate that came to nothing
	for {
		e.expectNext()
		n, addr, err := e.packets.ReadFrom(p)
		if err != nil {
			if e.errors++; e.errors < 100 && e.packets.retries(err) {
				continue
			}
			e.end(err)
			return 0, nil, err
		}
		e.errors = 0
		if e.admit(time.Now(), p[:n], addrPort(addr)) {
			return n, addr, nil
		}
	}
}

// admit tells whether pion should see a message.
func (e *endpoint) admit(now time.Time, p []byte, source netip.AddrPort) bool {
	c := &e.server.counters
	_, live := e.ownerOf(source)
	e.signed = false
	if isChannelData(p) {
		if !live {
			c.malformed.Add(1)
		}
		return live
	}
	// Before anything is parsed: a flood costs as little as can be.
	if !live && !e.limiter.allow(now, source.Addr()) {
		c.limited.Add(1)
		return false
	}
	r, ok := parseRequest(p)
	if !ok {
		c.malformed.Add(1)
		return false
	}
	if !r.isRequest || !r.signed {
		return true
	}
	if e.replays.foreign(r.integrity, source) {
		c.replayed.Add(1)
		return false
	}
	if r.allocate && r.transport != 0 && r.transport != protocolUDP {
		// pion takes TCP and relays UDP instead. RFC 6062 opens connections from this machine: never.
		c.refusedTransports.Add(1)
		_, _ = e.WriteTo(unsupportedTransport(p), net.UDPAddrFromAddrPort(source))
		return false
	}
	e.current, e.signed, e.source = r.integrity, true, source
	return true
}

// authenticate returns the key that a request must be signed with. The realm is the request's own claim, so it is compared.
func (e *endpoint) authenticate(username, realm string, source net.Addr) ([]byte, bool) {
	s := e.server
	expiry, _, err := parseUsername(username)
	ok := err == nil && realm == s.cfg.Realm
	if o, live := e.ownerOf(addrPort(source)); live {
		// RFC 8656, section 5: an allocation is managed by the user who made it. Credentials that have run out meanwhile are
		// still good for it, else every call would end with them.
		ok = ok && o.username == username
	} else {
		ok = ok && time.Now().Before(expiry)
	}
	if !ok {
		s.counters.refusedLogins.Add(1)
		return nil, false
	}
	return turn.GenerateAuthKey(username, realm, passwordFor(s.cfg.Secret, username)), true
}

// authenticated is told the outcome of a request's signature.
func (e *endpoint) authenticated(_, _ net.Addr, _, _, _ string, _ string, verdict bool) {
	if !verdict {
		e.server.counters.refusedLogins.Add(1)
	} else if e.signed {
		e.replays.add(time.Now(), e.current, e.source)
	}
}

// quota takes a place for an allocation that is about to be made.
func (e *endpoint) quota(username, _ string, _ net.Addr) bool {
	s := e.server
	_, name, err := parseUsername(username)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || s.closed || s.total >= s.cfg.MaxAllocations || s.perUser[name] >= s.cfg.MaxAllocationsPerUser {
		s.counters.refusedQuota.Add(1)
		return false
	}
	s.total++
	s.perUser[name]++
	e.pending = name
	return true
}

// release gives a place back that no allocation came to take.
func (e *endpoint) release() {
	if e.pending != "" {
		e.server.releasePlace(e.pending)
		e.pending = ""
	}
}

func (s *Server) releasePlace(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.perUser[name]--; s.perUser[name] == 0 {
		delete(s.perUser, name)
	}
}

// created is told of a new allocation, by the reading goroutine.
func (e *endpoint) created(source, _ net.Addr, _, username, _ string, _ net.Addr, _ int) {
	e.server.counters.created.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.owner[addrPort(source)] = owner{username, e.pending}
	e.pending = ""
}

// deleted is told of an allocation's end, by any goroutine; for an endpoint that has ended, after end.
func (e *endpoint) deleted(source, _ net.Addr, _, _, _ string) {
	e.mu.Lock()
	o, known := e.owner[addrPort(source)]
	delete(e.owner, addrPort(source))
	e.mu.Unlock()
	if known {
		e.server.releasePlace(o.name)
		e.expectNext()
	}
}

// end gives back the places of all allocations: pion closes them now without a word. Their sockets report themselves.
func (e *endpoint) end(cause error) {
	if _, udp := e.packets.(*datagrams); udp && !errors.Is(cause, net.ErrClosed) {
		e.server.cfg.Log.Error().Err(cause).Stringer("addr", e.LocalAddr()).Msg("TURN listener ended")
	}
	e.mu.Lock()
	owners := e.owner
	e.owner = make(map[netip.AddrPort]owner)
	e.mu.Unlock()
	for _, o := range owners {
		e.server.releasePlace(o.name)
	}
	_ = e.packets.Close()
	e.server.untrack(e)
}

func (e *endpoint) ownerOf(source netip.AddrPort) (owner, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	o, live := e.owner[source]
	return o, live
}

// expectNext tells the socket what to wait for. The lock keeps a decision from overtaking a newer one.
func (e *endpoint) expectNext() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.packets.expect(len(e.owner) > 0)
}

// permit decides about a permission or a channel (RFC 8656, sections 10 and 12).
func (e *endpoint) permit(_ net.Addr, peer net.IP) bool {
	addr, ok := netip.AddrFromSlice(peer)
	if !ok || !e.server.policy.address(addr) {
		e.server.counters.refusedPeers.Add(1)
		return false
	}
	return true
}

// addrPort makes a map key of a client's address.
func addrPort(addr net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := addr.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

package turnserver

import (
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// Lifetimes (RFC 8656, sections 3.2, 9 and 12).
const (
	defaultLifetime = 10 * time.Minute
	maxLifetime     = time.Hour
	permissionTime  = 5 * time.Minute
	channelTime     = 10 * time.Minute
	// afterExpiry is how long an allocation may be refreshed after its credentials have run out.
	afterExpiry = 12 * time.Hour
	// maxKnown is how many permissions, and how many channels, one allocation may have.
	maxKnown = 128
)

// client is one client's side of an allocation: the other two parts of the 5-tuple are the socket it came by, or its stream. It belongs to the
// thread of its loop, or to the goroutine of its stream.
type client struct {
	source addr
	loop   *loop       // whose relay sockets its allocation uses
	socket *udpSocket  // that it came by; nil for a stream
	stream *stream     // nil for UDP
	name   sockaddr    // the source, as the system writes it
	alloc  *allocation // nil before and after
}

// number tells streams apart, whose nonces are their own.
func (c *client) number() uint64 {
	if c.stream != nil {
		return c.stream.number
	}
	return 0
}

// transport is how the client came, for the log.
func (c *client) transport() string {
	if c.stream != nil {
		return string(c.stream.transport)
	}
	return string(UDP)
}

// adopt makes a the client's allocation. A client by UDP is kept from now on.
func (c *client) adopt(a *allocation) {
	a.client, c.alloc = c, a
	l := c.loop
	if c.stream != nil {
		if !l.post(func() { l.add(a) }) {
			closeSocket(a.fd)
		}
		return
	}
	kept := *c
	a.client = &kept
	c.socket.clients[c.source] = &kept
	l.add(a)
}

// end ends the client's allocation.
func (c *client) end(reason string) {
	a, l := c.alloc, c.loop
	c.alloc = nil
	if c.stream != nil {
		l.post(func() { l.remove(a) }) // a loop that has ended has closed it
	} else {
		delete(c.socket.clients, c.source)
		if c.socket.last != nil && c.socket.last.source == c.source {
			c.socket.last = nil
		}
		l.remove(a)
	}
	s := l.server
	s.releasePlace(a.account)
	s.cfg.Log.Info().Str("user", a.account.user).Stringer("client", c.source.addrPort()).Str("transport", c.transport()).
		Stringer("relayed", a.relayed).Str("reason", reason).Dur("lasted", time.Since(a.born)).
		Uint64("to_peers", a.toPeers.Load()).Uint64("from_peers", a.fromPeers.Load()).Msg("Allocation ended")
}

// allocation is a relayed transport address. Its relay socket belongs to a loop; the rest to the owner of its client, but for known, which the
// loop reads as well.
type allocation struct {
	client   *client
	fd       int // the relay socket
	relayed  netip.AddrPort
	family   byte
	username string
	account  *account // whose quota it counts for
	key      []byte
	born     time.Time
	expires  time.Time
	mayLast  time.Time // however often it is refreshed
	made     [16]byte  // transaction of the Allocate, with the cookie
	granted  uint32    // its lifetime in seconds, as answered

	known atomic.Pointer[known]
	// These belong to the loop: the channel by which a peer's last packet came, and what is in line to be sent.
	last   *channel
	line   pending
	queued *pending

	toPeers, fromPeers atomic.Uint64 // bytes
}

// known is whom an allocation may speak to. It is never changed: a new one takes its place.
type known struct {
	permissions map[[16]byte]*atomic.Int64 // by address: until when, Unix nanoseconds
	byNumber    map[uint16]*channel
	byPeer      map[addr]*channel
}

// channel is a number for a peer.
type channel struct {
	number uint16
	peer   addr
	name   sockaddr
	until  atomic.Int64 // Unix nanoseconds
	// permitted is until when the peer's packets are let in, Unix nanoseconds.
	permitted atomic.Int64
}

func (k *known) clone() *known {
	return &known{permissions: maps.Clone(k.permissions), byNumber: maps.Clone(k.byNumber), byPeer: maps.Clone(k.byPeer)}
}

func newKnown() *known {
	return &known{permissions: make(map[[16]byte]*atomic.Int64), byNumber: make(map[uint16]*channel), byPeer: make(map[addr]*channel)}
}

// sweep drops what has run out.
func (k *known) sweep(now int64) {
	maps.DeleteFunc(k.byNumber, func(_ uint16, c *channel) bool {
		if c.until.Load() > now {
			return false
		}
		delete(k.byPeer, c.peer)
		return true
	})
	maps.DeleteFunc(k.permissions, func(_ [16]byte, until *atomic.Int64) bool { return until.Load() <= now })
}

// permit installs or refreshes permissions; false when there is no room.
func (a *allocation) permit(now time.Time, hosts ...netip.Addr) bool {
	until := now.Add(permissionTime).UnixNano()
	var next *known
	for _, host := range hosts {
		ip := host.As16()
		k := a.known.Load()
		if next != nil {
			k = next
		}
		if p := k.permissions[ip]; p != nil {
			p.Store(until)
			continue
		}
		if next == nil {
			next = k.clone()
			next.sweep(now.UnixNano())
		}
		if len(next.permissions) >= maxKnown {
			return false
		}
		p := new(atomic.Int64)
		p.Store(until)
		next.permissions[ip] = p
	}
	if next != nil {
		a.known.Store(next)
	}
	for _, c := range a.known.Load().byNumber {
		if slices.Contains(hosts, netip.AddrFrom16(c.peer.ip).Unmap()) {
			c.permitted.Store(until)
		}
	}
	return true
}

// permitted says whether packets may go to and come from an address.
func (k *known) permitted(now int64, ip [16]byte) bool {
	p := k.permissions[ip]
	return p != nil && p.Load() > now
}

// errors of bind.
const (
	bound = iota
	clash
	full
)

// bind binds a channel number to a peer, or refreshes it, and with it the permission (RFC 8656, section 12.2).
func (a *allocation) bind(now time.Time, number uint16, peer netip.AddrPort) int {
	if !a.permit(now, peer.Addr()) {
		return full
	}
	key := addrOf(peer)
	k := a.known.Load()
	for fresh := false; ; fresh = true {
		c, other := k.byNumber[number], k.byPeer[key]
		if c != nil && c == other {
			c.until.Store(now.Add(channelTime).UnixNano())
			return bound
		}
		if c == nil && other == nil {
			break
		}
		if fresh {
			return clash
		}
		// One of both may have run out.
		k = k.clone()
		k.sweep(now.UnixNano())
	}
	next := k.clone()
	next.sweep(now.UnixNano())
	if len(next.byNumber) >= maxKnown {
		return full
	}
	c := &channel{number: number, peer: key}
	c.name.set(peer, systemFamily(a.family))
	c.until.Store(now.Add(channelTime).UnixNano())
	c.permitted.Store(now.Add(permissionTime).UnixNano())
	next.byNumber[number], next.byPeer[key] = c, c
	a.known.Store(next)
	return bound
}

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
	s.releasePlaces(a.account, 1)
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
	token    []byte    // of the port after its own, if that was reserved

	known atomic.Pointer[known]
	// These belong to the loop: the channel by which a peer's last packet came, and the datagrams of a batch that are in line to be sent, of
	// which next of the loop is the list. first is -1 when there are none.
	last          *channel
	first, newest int

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

func newKnown() *known {
	return &known{permissions: make(map[[16]byte]*atomic.Int64), byNumber: make(map[uint16]*channel), byPeer: make(map[addr]*channel)}
}

// fresh is a copy, to be changed, without what has run out.
func (k *known) fresh(now time.Time) *known {
	next := &known{permissions: maps.Clone(k.permissions), byNumber: maps.Clone(k.byNumber), byPeer: maps.Clone(k.byPeer)}
	over := func(until *atomic.Int64) bool { return until.Load() <= now.UnixNano() }
	maps.DeleteFunc(next.byNumber, func(_ uint16, c *channel) bool { return over(&c.until) })
	maps.DeleteFunc(next.byPeer, func(_ addr, c *channel) bool { return over(&c.until) })
	maps.DeleteFunc(next.permissions, func(_ [16]byte, until *atomic.Int64) bool { return over(until) })
	return next
}

// permit installs or refreshes permissions; false when there is no room.
func (a *allocation) permit(now time.Time, hosts ...netip.Addr) bool {
	until := now.Add(permissionTime).UnixNano()
	k, changed := a.known.Load(), false
	for _, host := range hosts {
		ip := host.As16()
		if p := k.permissions[ip]; p != nil {
			p.Store(until)
			continue
		}
		if !changed {
			k, changed = k.fresh(now), true
		}
		if len(k.permissions) >= maxKnown {
			return false
		}
		p := new(atomic.Int64)
		p.Store(until)
		k.permissions[ip] = p
	}
	if changed {
		a.known.Store(k)
	}
	for _, c := range k.byNumber {
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

// What comes of bind.
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
	key, k := addrOf(peer), a.known.Load()
	if c := k.byNumber[number]; c != nil && c.peer == key {
		c.until.Store(now.Add(channelTime).UnixNano())
		return bound
	}
	next := k.fresh(now)
	if next.byNumber[number] != nil || next.byPeer[key] != nil {
		return clash
	}
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

// send relays one packet to a peer, whole or else in fragments, as far as the limits and the system allow. Only the owner of the client may call it.
func (a *allocation) send(now int64, name *sockaddr, data []byte, whole bool) {
	c := &a.client.loop.server.counters
	switch {
	case !a.pass(now, len(data)):
		c.throttled.Add(1)
	case whole && !sendWhole(a.fd, name, data), !whole && !sendTo(a.fd, name, data):
		c.unsent.Add(1)
	default:
		c.toPeers.Add(1)
		c.toPeersBytes.Add(uint64(len(data)))
		a.toPeers.Add(uint64(len(data)))
	}
}

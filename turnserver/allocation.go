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
	defaultLifetime    = 10 * time.Minute
	maxLifetime        = time.Hour
	permissionLifetime = 5 * time.Minute
	channelLifetime    = 10 * time.Minute
	// afterExpiry is how long an allocation may be refreshed after its credentials have run out.
	afterExpiry = 12 * time.Hour
	// idleTime is how long nothing must have gone to a peer before an allocation is idle. ICE sends a check to the peer of a pair in use at least
	// every 5 s, and gives the pair up after 30 s without an answer (RFC 7675, section 5.1).
	idleTime = 15 * time.Second
	// maxPermissions is how many permissions one allocation may have, and maxChannels how many channels.
	maxPermissions, maxChannels = 128, 128
)

// client is the client's side of a 5-tuple: the client's address, and the socket or the stream that its messages come by. It belongs to the
// thread of its loop, or to the goroutine that reads its stream.
type client struct {
	source addr
	loop   *loop       // the loop that owns the relay socket
	socket *udpSocket  // nil for a stream
	stream *stream     // nil for UDP
	name   sockaddr    // source, in the system's form
	alloc  *allocation // nil before it is made and after it has ended
}

// number is the number of the client's stream, 0 for UDP. A nonce is good for one stream only.
func (c *client) number() uint64 {
	if c.stream != nil {
		return c.stream.number
	}
	return 0
}

// transport says how the client came, for the log.
func (c *client) transport() string {
	if c.stream != nil {
		return string(c.stream.transport)
	}
	return string(UDP)
}

// adopt makes a the client's allocation. From now on the socket remembers a UDP client.
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
		l.post(func() { l.remove(a) }) // a loop that has ended has closed the socket
	} else {
		delete(c.socket.clients, c.source)
		if c.socket.last != nil && c.socket.last.source == c.source {
			c.socket.last = nil
		}
		l.remove(a)
	}
	s := l.server
	s.releaseQuota(a.quota, 1)
	s.cfg.Log.Info().Str("user", a.quota.user).Stringer("client", c.source.addrPort()).Str("transport", c.transport()).
		Stringer("relayed", a.relayed).Str("reason", reason).Dur("lasted", time.Since(a.born)).
		Uint64("to_peers", a.toPeers.Load()).Uint64("from_peers", a.fromPeers.Load()).Msg("Allocation ended")
}

// allocation is a relayed transport address. Its relay socket belongs to a loop. Everything else belongs to the owner of its client;
// the loop also reads peers.
type allocation struct {
	client   *client
	fd       int // the relay socket
	relayed  netip.AddrPort
	reach    *reach // under which it was made
	family   byte
	username string
	quota    *quota // that the allocation counts for
	key      []byte
	born     time.Time
	expires  time.Time
	// refreshEnd is the end of all refreshes.
	refreshEnd  time.Time
	transaction [16]byte // of the Allocate, with the cookie
	granted     uint32   // lifetime in seconds, as answered
	token       []byte   // RESERVATION-TOKEN of the port after this one; nil if none is reserved

	peers atomic.Pointer[peers]
	// What follows belongs to the loop. last is the channel that the last packet of a peer belonged to. first and newest are the
	// datagrams of the current batch that are queued for the relay socket: loop.next links them, and first is -1 if there are none.
	last          *channel
	first, newest int
	// toPeersBefore is what idle has seen of toPeers, and active is when it last saw toPeers grow.
	toPeersBefore uint64
	active        time.Time

	toPeers, fromPeers atomic.Uint64 // bytes
}

// idle returns for how long nothing has gone to a peer, as far as its calls have seen. Only the loop may call it.
func (a *allocation) idle(now time.Time) time.Duration {
	if sent := a.toPeers.Load(); sent != a.toPeersBefore || a.active.IsZero() {
		a.toPeersBefore, a.active = sent, now
	}
	return now.Sub(a.active)
}

// peers holds the permissions and channels of an allocation. Its maps never change: a new value takes the place of the old one.
type peers struct {
	permissions map[[16]byte]*atomic.Int64 // by address: when they expire, Unix nanoseconds
	byNumber    map[uint16]*channel
	byPeer      map[addr]*channel
}

// channel is a channel number and the peer that it is bound to.
type channel struct {
	number uint16
	peer   addr
	name   sockaddr
	until  atomic.Int64 // when the binding expires, Unix nanoseconds
	// permitted is when the permission for the peer's address expires, Unix nanoseconds.
	permitted atomic.Int64
}

func newPeers() *peers {
	return &peers{permissions: make(map[[16]byte]*atomic.Int64), byNumber: make(map[uint16]*channel), byPeer: make(map[addr]*channel)}
}

// copyUnexpired returns a copy that the caller may change, without what has expired.
func (k *peers) copyUnexpired(now time.Time) *peers {
	next := &peers{permissions: maps.Clone(k.permissions), byNumber: maps.Clone(k.byNumber), byPeer: maps.Clone(k.byPeer)}
	over := func(until *atomic.Int64) bool { return until.Load() <= now.UnixNano() }
	maps.DeleteFunc(next.byNumber, func(_ uint16, c *channel) bool { return over(&c.until) })
	maps.DeleteFunc(next.byPeer, func(_ addr, c *channel) bool { return over(&c.until) })
	maps.DeleteFunc(next.permissions, func(_ [16]byte, until *atomic.Int64) bool { return over(until) })
	return next
}

// permit installs or refreshes permissions. It returns false when there are too many.
func (a *allocation) permit(now time.Time, hosts ...netip.Addr) bool {
	until := now.Add(permissionLifetime).UnixNano()
	k, changed := a.peers.Load(), false
	for _, host := range hosts {
		ip := host.As16()
		if p := k.permissions[ip]; p != nil {
			p.Store(until)
			continue
		}
		if !changed {
			k, changed = k.copyUnexpired(now), true
		}
		if len(k.permissions) >= maxPermissions {
			return false
		}
		p := new(atomic.Int64)
		p.Store(until)
		k.permissions[ip] = p
	}
	if changed {
		a.peers.Store(k)
	}
	for _, c := range k.byNumber {
		if slices.Contains(hosts, netip.AddrFrom16(c.peer.ip).Unmap()) {
			c.permitted.Store(until)
		}
	}
	return true
}

// permitted says whether packets may go to an address and come from it.
func (k *peers) permitted(now int64, ip [16]byte) bool {
	p := k.permissions[ip]
	return p != nil && p.Load() > now
}

// The results of bind.
const (
	bound = iota
	clash // the number is bound to another peer, or the peer to another number
	full  // there are too many
)

// bind binds a channel number to a peer, or refreshes it, and with it the permission (RFC 8656, section 12.2).
func (a *allocation) bind(now time.Time, number uint16, peer netip.AddrPort) int {
	if !a.permit(now, peer.Addr()) {
		return full
	}
	key, k := addrOf(peer), a.peers.Load()
	if c := k.byNumber[number]; c != nil && c.peer == key {
		c.until.Store(now.Add(channelLifetime).UnixNano())
		return bound
	}
	next := k.copyUnexpired(now)
	if next.byNumber[number] != nil || next.byPeer[key] != nil {
		return clash
	}
	if len(next.byNumber) >= maxChannels {
		return full
	}
	c := &channel{number: number, peer: key}
	c.name.set(peer, systemFamily(a.family))
	c.until.Store(now.Add(channelLifetime).UnixNano())
	c.permitted.Store(now.Add(permissionLifetime).UnixNano())
	next.byNumber[number], next.byPeer[key] = c, c
	a.peers.Store(next)
	return bound
}

// send relays one packet to a peer, if the bitrate and the system allow it. whole forbids fragments. Only the owner of the client may
// call it.
func (a *allocation) send(now int64, name *sockaddr, data []byte, whole bool) {
	c := &a.client.loop.server.counters
	switch {
	case !a.allow(now, len(data)):
		c.throttled.Add(1)
	case whole && !sendWhole(a.fd, name, data), !whole && !sendTo(a.fd, name, data):
		c.unsent.Add(1)
	default:
		c.toPeers.Add(1)
		c.toPeersBytes.Add(uint64(len(data)))
		a.toPeers.Add(uint64(len(data)))
	}
}

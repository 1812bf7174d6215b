package turnserver

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"multifactorymodel.org/ewindow/turnserver/limit"
)

const (
	maxEvents = 128
	maxReads  = 4 // full batches of one socket in a row, before the others get their turn
)

// udpSocket is a listener's socket of one loop.
type udpSocket struct {
	fd      int
	clients map[addr]*client // clients with an allocation
	last    *client          // the client whose packet came last
}

// loop is one thread that waits for its sockets and relays what comes: a UDP socket for each listener, and relay sockets. Nobody else
// touches what it owns, so nothing is locked. Others hand it a function to run with post.
type loop struct {
	server   *Server
	epoll    int
	file     *os.File // for epoll
	wakeup   int      // an eventfd
	sockets  []*udpSocket
	listener map[int]*udpSocket  // by file descriptor
	relays   map[int]*allocation // by file descriptor
	reader   *reader
	writer   *writer
	message  message
	answer   []byte
	newcomer client // the client without an allocation whose message is being handled
	now      time.Time
	nanos    int64
	more     bool // a socket was left before it was empty

	// Each allocation has a linked list of the datagrams in the current batch that go to its peers: next[i] is the datagram after i,
	// -1 at the end. queued are the allocations that have such a list.
	next   [batch]int
	queued []*allocation

	mu      sync.Mutex // guards what follows
	posted  []func()
	stopped bool
}

func (s *Server) newLoop() (l *loop, err error) {
	l = &loop{
		server: s, epoll: -1, wakeup: -1, listener: make(map[int]*udpSocket), relays: make(map[int]*allocation),
		reader: newReader(), writer: newWriter(),
	}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err = unix.SetNonblock(l.epoll, true); err != nil { // else the runtime would not poll it
		_ = unix.Close(l.epoll)
		return nil, os.NewSyscallError("fcntl", err)
	}
	l.file = os.NewFile(uintptr(l.epoll), "epoll")
	if l.wakeup, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		_ = l.file.Close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err = l.watch(l.wakeup); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// watch makes run look at a socket.
func (l *loop) watch(fd int) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &e))
}

// listen adds a socket. It is called before run.
func (l *loop) listen(ap netip.AddrPort) (netip.AddrPort, error) {
	fd, err := newSocket(ap, forClients)
	if err != nil {
		return netip.AddrPort{}, err
	}
	local, err := boundTo(fd)
	if err == nil {
		err = l.watch(fd)
	}
	if err != nil {
		closeSocket(fd)
		return netip.AddrPort{}, err
	}
	u := &udpSocket{fd: fd, clients: make(map[addr]*client)}
	l.sockets, l.listener[fd] = append(l.sockets, u), u
	return local, nil
}

// post lets the loop run f. It returns false when the loop has ended or is about to end; f is not run then.
func (l *loop) post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	l.posted = append(l.posted, f)
	l.wakeLocked()
	return true
}

// wakeLocked wakes the loop. The caller holds the mutex. The loop closes the eventfd only after it has seen stopped under the mutex, so the
// eventfd is open.
func (l *loop) wakeLocked() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(l.wakeup, one[:])
}

// stop lets run end after the functions that were posted.
func (l *loop) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	l.wakeLocked()
}

// run relays until stop, and closes all sockets in the end.
//
// Go's own poller waits for the loop's epoll instance, which is readable when something has come at any of its sockets. If the thread waited in
// epoll_wait instead, the runtime would look every 20 µs whether the call has returned.
func (l *loop) run() {
	defer l.close()
	events := make([]unix.EpollEvent, maxEvents)
	raw, err := l.file.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(uintptr) (over bool) { return l.handleEvents(events) })
}

// handleEvents handles all that has come, and says whether the loop is over.
func (l *loop) handleEvents(events []unix.EpollEvent) (over bool) {
	for n := maxEvents; n == maxEvents || l.more; {
		l.more = false
		count, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&events[0])), maxEvents, 0, 0, 0)
		if errno != 0 || count == 0 {
			return false
		}
		n = int(count)
		l.now = time.Now()
		l.nanos = l.now.UnixNano()
		for _, e := range events[:n] {
			fd := int(e.Fd)
			if a := l.relays[fd]; a != nil {
				l.fromPeers(a)
			} else if u := l.listener[fd]; u != nil {
				l.fromClients(u)
			} else if fd == l.wakeup && l.runPosted() {
				return true
			}
		}
	}
	return false
}

// add begins to read from an allocation's relay socket.
func (l *loop) add(a *allocation) {
	if err := l.watch(a.fd); err != nil {
		l.server.cfg.Log.Error().Err(err).Msg("Nothing will come through an allocation")
	}
	l.relays[a.fd] = a
}

// remove ends the reading from an allocation's relay socket, and closes the socket.
func (l *loop) remove(a *allocation) {
	delete(l.relays, a.fd)
	closeSocket(a.fd)
}

// runPosted runs the functions that were posted, and says whether the loop is over.
func (l *loop) runPosted() (over bool) {
	var drain [8]byte
	_, _ = unix.Read(l.wakeup, drain[:])
	l.mu.Lock()
	posted := l.posted
	l.posted = nil
	over = l.stopped
	l.mu.Unlock()
	for _, f := range posted {
		f()
	}
	return over
}

// sweep ends allocations that have expired, that are idle while their user needs the place, whose users are not allowed any more, or that were made
// before [Server.SetReach]. Those of streams expire with their streams, which have a deadline.
func (l *loop) sweep() {
	l.now = time.Now()
	for _, a := range l.relays {
		reason := ""
		switch idle := a.idle(l.now); {
		case !l.server.allowed(a.quota.user):
			reason = "its user has gone"
		case a.reach != l.server.reach.Load():
			reason = "the relay's addresses have changed"
		case a.client.stream == nil && !l.now.Before(a.expires):
			reason = "expired"
		case idle >= idleTime && l.server.crowded(a.quota):
			reason = "idle, and its user has many"
		default:
			continue
		}
		if a.client.stream != nil {
			_ = a.client.stream.Close() // its goroutine ends the allocation
			continue
		}
		a.client.end(reason)
	}
}

// close ends the allocations that are left, and closes everything.
func (l *loop) close() {
	for _, u := range l.sockets {
		for _, c := range u.clients {
			c.end("the server ends")
		}
		closeSocket(u.fd)
	}
	for fd := range l.relays {
		closeSocket(fd)
	}
	_ = unix.Close(l.wakeup)
	_ = l.file.Close()
}

// fromClients handles what has come at a listener's socket.
func (l *loop) fromClients(u *udpSocket) {
	c := &l.server.counters
	for range maxReads {
		n := l.reader.read(u.fd)
		for i := range n {
			data, ok := l.reader.datagram(i)
			if !ok || len(data) < channelHead {
				c.malformed.Add(1)
				continue
			}
			name := l.reader.name(i)
			source := name.addr()
			from := u.last
			if from == nil || from.source != source {
				from = u.clients[source]
			}
			if isChannelData(data) {
				if from == nil {
					c.malformed.Add(1)
					continue
				}
				u.last = from
				l.queue(from.alloc, i)
				continue
			}
			l.sendQueued() // now, since the message may end an allocation that has datagrams queued
			l.control(u, from, source, name, data)
		}
		l.sendQueued()
		if n < batch {
			return
		}
	}
	l.more = true
}

// queue queues channel data, the i-th datagram of the batch, for the relay socket of its allocation.
func (l *loop) queue(a *allocation, i int) {
	l.next[i] = -1
	if a.first < 0 {
		a.first = i
		l.queued = append(l.queued, a)
	} else {
		l.next[a.newest] = i
	}
	a.newest = i
}

// sendQueued sends what queue has queued, one relay socket after the other.
func (l *loop) sendQueued() {
	c := &l.server.counters
	for _, a := range l.queued {
		peers := a.peers.Load()
		var bytes uint64
		for i := a.first; i >= 0; i = l.next[i] {
			data, _ := l.reader.datagram(i)
			ch := peers.byNumber[binary.BigEndian.Uint16(data)]
			size := int(binary.BigEndian.Uint16(data[2:]))
			if ch == nil || size > len(data)-channelHead || ch.until.Load() <= l.nanos {
				c.droppedPeer.Add(1)
				continue
			}
			if !a.allow(l.nanos, size) {
				c.throttled.Add(1)
				continue
			}
			l.writer.add(a.fd, &ch.name, data[channelHead:channelHead+size])
			bytes += uint64(size)
		}
		a.first = -1
		l.writer.flush()
		sent, lost := l.writer.take()
		c.toPeers.Add(sent)
		c.toPeersBytes.Add(bytes)
		c.unsent.Add(lost)
		a.toPeers.Add(bytes)
	}
	l.queued = l.queued[:0]
}

// control handles a STUN message.
func (l *loop) control(u *udpSocket, from *client, source addr, name *sockaddr, data []byte) {
	s := l.server
	if from == nil {
		// The limit comes before parsing, so that a flood costs as little as possible.
		if !s.logins.datagrams.Allow(l.now, limit.Source(source.host())) {
			s.counters.limited.Add(1)
			return
		}
		from = &l.newcomer
		*from = client{source: source, loop: l, socket: u, name: *name}
	}
	if !l.message.parse(data) {
		s.counters.malformed.Add(1)
		return
	}
	l.answer = s.handle(l.answer[:0], l.now, from, &l.message)
	if len(l.answer) > 0 && !sendTo(u.fd, &from.name, l.answer) {
		s.counters.unsent.Add(1)
	}
}

// fromPeers handles what has come at a relay socket.
func (l *loop) fromPeers(a *allocation) {
	s := l.server
	k := a.peers.Load()
	for range maxReads {
		n := l.reader.read(a.fd)
		var packets, bytes, dropped uint64
		for i := range n {
			data, whole := l.reader.datagram(i)
			source := l.reader.name(i).addr()
			ch := a.last
			if ch == nil || ch.peer != source || ch.until.Load() <= l.nanos {
				ch = k.byPeer[source]
			}
			var packet []byte
			buffer := l.reader.buffers[i][:]
			switch {
			case !whole:
			case ch != nil && ch.until.Load() > l.nanos && ch.permitted.Load() > l.nanos:
				a.last = ch
				putChannelHead(buffer[room-channelHead:], ch.number, len(data))
				packet = buffer[room-channelHead : room+len(data)]
				if padded := (len(data) + 3) &^ 3; a.client.stream != nil { // padded on streams
					clear(buffer[room+len(data) : room+padded])
					packet = buffer[room-channelHead : room+padded]
				}
			case k.permitted(l.nanos, source.ip) && s.reach.Load().policy.peer(source.addrPort()):
				packet = dataIndication(buffer, source.addrPort(), len(data))
			}
			if packet == nil {
				dropped++
				continue
			}
			if !a.allow(l.nanos, len(data)) {
				s.counters.throttled.Add(1)
				continue
			}
			packets++
			bytes += uint64(len(data))
			if st := a.client.stream; st != nil {
				if !st.queue(packet) {
					s.counters.unsent.Add(1)
				}
			} else {
				l.writer.add(a.client.socket.fd, &a.client.name, packet)
			}
		}
		l.writer.flush()
		_, lost := l.writer.take()
		s.counters.fromPeers.Add(packets)
		s.counters.fromPeersBytes.Add(bytes)
		s.counters.droppedPeer.Add(dropped)
		s.counters.unsent.Add(lost)
		a.fromPeers.Add(bytes)
		if n < batch {
			return
		}
	}
	l.more = true
}

// dataIndication builds a Data indication (RFC 8656, section 11.5) around size bytes that are in buffer after room, and returns it.
func dataIndication(buffer []byte, peer netip.AddrPort, size int) []byte {
	value := 8
	if !peer.Addr().Unmap().Is4() {
		value = 20
	}
	head := stunHeader + 4 + value + 4
	padded := (size + 3) &^ 3
	p := buffer[room-head : room+padded]
	binary.BigEndian.PutUint16(p, 0x0017) // Data, indication
	binary.BigEndian.PutUint16(p[2:], uint16(head-stunHeader+padded))
	binary.BigEndian.PutUint32(p[4:], magicCookie)
	_, _ = rand.Read(p[8:stunHeader]) // it never fails
	binary.BigEndian.PutUint16(p[stunHeader:], attrPeerAddress)
	binary.BigEndian.PutUint16(p[stunHeader+2:], uint16(value))
	putXOR(p[stunHeader+4:], peer, p[4:stunHeader])
	binary.BigEndian.PutUint16(p[head-4:], attrData)
	binary.BigEndian.PutUint16(p[head-2:], uint16(size))
	clear(p[head+size:])
	return p
}

package turnserver

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"multifactorymodel.org/ewindow/turnserver/limit"
)

// accept takes connections of a listener until the listener is closed.
func (s *Server) accept(listener net.Listener, transport Transport, decrypt func(net.Conn) net.Conn) error {
	defer s.untrack(listener)
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			// Most likely there are no more file descriptors. Calls go on, and there is room for new ones when some have ended.
			s.cfg.Log.Warn().Err(err).Msg("Failed to accept a TURN connection")
			select {
			case <-s.stop:
				return err
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		source := limit.Source(addrPort(conn.RemoteAddr()).Addr())
		if !s.streams.TryAcquire(source) {
			s.counters.refusedStreams.Add(1)
			_ = conn.Close()
			continue
		}
		s.serve(decrypt(conn), transport, func() { s.streams.Release(source) })
	}
}

// addrPort is the address of a stream's client, the zero value for anything but TCP.
func addrPort(addr net.Addr) netip.AddrPort {
	a, _ := addr.(*net.TCPAddr) // a nil *TCPAddr has the zero address
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// maxQueue is how many bytes may wait for a stream's client. What does not fit is lost, as on a slow line.
const maxQueue = 256 << 10

// stream is one connection and its client. One goroutine reads from it and owns the client, another one writes what is queued.
type stream struct {
	conn      net.Conn
	reader    *bufio.Reader
	server    *Server
	transport Transport
	number    uint64
	client    client
	born      time.Time
	once      sync.Once

	mu     sync.Mutex // guards what follows
	ready  sync.Cond
	queued []byte
	ends   []int // of the messages in queued
	closed bool
}

// serve begins to serve a connection. It calls over when the connection has ended.
func (s *Server) serve(conn net.Conn, transport Transport, over func()) {
	st := &stream{
		conn: conn, reader: bufio.NewReaderSize(conn, inboundSize), server: s, transport: transport, number: s.lastStream.Add(1), born: time.Now(),
	}
	st.ready.L = &st.mu
	st.client = client{source: addrOf(addrPort(conn.RemoteAddr())), stream: st}
	if len(s.loops) > 0 {
		st.client.loop = s.loops[st.number%uint64(len(s.loops))]
	}
	if !s.track(st) {
		_ = st.Close()
		over()
		return
	}
	go func() {
		defer s.untrack(st)
		defer over()
		var writing sync.WaitGroup
		writing.Go(st.write)
		st.read()
		_ = st.Close()
		writing.Wait()
	}()
}

// Close ends the stream. It may be called from any goroutine, and more than once. It closes the TCP connection without TLS's
// close_notify, since sending that would wait for a client that does not read.
func (st *stream) Close() (err error) {
	st.once.Do(func() {
		st.mu.Lock()
		st.closed = true
		st.ready.Signal()
		st.mu.Unlock()
		if over, ok := st.conn.(*tls.Conn); ok {
			err = over.NetConn().Close()
		} else {
			err = st.conn.Close()
		}
	})
	return err
}

// queue queues a message for the client, and returns false when there is no room. p is copied.
func (st *stream) queue(p []byte) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed || len(st.queued)+len(p) > maxQueue {
		return false
	}
	st.queued = append(st.queued, p...)
	st.ends = append(st.ends, len(st.queued))
	st.ready.Signal()
	return true
}

// write sends what is queued until the stream is closed. Over TCP it sends all of it at once. Over TLS each message has a record of its own,
// since some clients, coturn's own among them, read one message from each record. It closes the stream of a client that does not read: if only a
// part of a message was sent, nothing can follow it.
func (st *stream) write() {
	var sending []byte
	var ends []int
	for {
		st.mu.Lock()
		for len(st.queued) == 0 && !st.closed {
			st.ready.Wait()
		}
		if st.closed {
			st.mu.Unlock()
			return
		}
		sending, st.queued = st.queued, sending[:0]
		ends, st.ends = st.ends, ends[:0]
		st.mu.Unlock()
		if st.transport != TLS {
			ends[0] = len(sending)
			ends = ends[:1]
		}
		_ = st.conn.SetWriteDeadline(time.Now().Add(writeTime))
		from := 0
		for _, end := range ends {
			if _, err := st.conn.Write(sending[from:end]); err != nil {
				_ = st.Close()
				return
			}
			from = end
		}
	}
}

// read handles what the client sends until the connection ends or its deadline passes.
func (st *stream) read() {
	c, s := &st.client, st.server
	defer func() {
		if c.alloc != nil {
			c.end("the connection ended")
		}
	}()
	var m message
	var reply []byte
	buffer := make([]byte, inboundSize)
	for {
		// Without an allocation the deadline counts from the connection's start, so that neither silence nor a slow trickle of bytes keeps
		// it open.
		deadline := st.born.Add(loginTime)
		if c.alloc != nil {
			deadline = c.alloc.expires
		}
		_ = st.conn.SetReadDeadline(deadline)
		p, err := st.next(buffer)
		now := time.Now()
		if err != nil || !now.Before(deadline) {
			return
		}
		if isChannelData(p) {
			st.relay(now, p)
			continue
		}
		if c.alloc == nil && !s.logins.streams.Allow(now, limit.Source(c.source.host())) {
			s.counters.limited.Add(1)
			continue
		}
		if !m.parse(p) {
			s.counters.malformed.Add(1)
			continue
		}
		if reply = s.handle(reply[:0], now, c, &m); len(reply) > 0 && !st.queue(reply) {
			s.counters.unsent.Add(1)
		}
	}
}

// relay sends channel data to its peer.
func (st *stream) relay(now time.Time, p []byte) {
	a, c := st.client.alloc, &st.server.counters
	if a == nil {
		c.malformed.Add(1)
		return
	}
	ch := a.peers.Load().byNumber[binary.BigEndian.Uint16(p)]
	if ch == nil || ch.until.Load() <= now.UnixNano() {
		c.droppedPeer.Add(1)
		return
	}
	data := p[channelHead : channelHead+int(binary.BigEndian.Uint16(p[2:]))]
	a.send(now.UnixNano(), &ch.name, data, false)
}

var errFraming = errors.New("the stream holds neither STUN nor channel data")

// next reads one message into p (RFC 8656, sections 3.1 and 12.5). It skips messages that are too large to be relayed.
func (st *stream) next(p []byte) ([]byte, error) {
	for {
		head, err := st.reader.Peek(4)
		if err != nil {
			return nil, err
		}
		size := int(binary.BigEndian.Uint16(head[2:]))
		switch {
		case head[0]&0xc0 == 0:
			if head, err = st.reader.Peek(8); err != nil {
				return nil, err
			}
			if binary.BigEndian.Uint32(head[4:]) != magicCookie {
				return nil, errFraming
			}
			size += stunHeader
		case isChannelData(head):
			size = channelHead + (size+3)&^3 // padded on streams
		default:
			return nil, errFraming
		}
		if size > len(p) {
			if _, err := st.reader.Discard(size); err != nil {
				return nil, err
			}
			continue
		}
		if _, err := io.ReadFull(st.reader, p[:size]); err != nil {
			return nil, err
		}
		return p[:size], nil
	}
}

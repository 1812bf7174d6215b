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
)

// accept takes connections of a TCP or TLS listener until it is closed.
func (s *Server) accept(listener net.Listener, transport Transport) {
	defer s.untrack(listener)
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of file descriptors, most likely: existing calls go on, and new ones may when some have ended.
			s.cfg.Log.Warn().Err(err).Msg("Failed to accept a TURN connection")
			select {
			case <-s.stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		ip := addrPort(conn.RemoteAddr()).Addr()
		if !s.addStream(ip) {
			s.counters.refusedStreams.Add(1)
			_ = conn.Close()
			continue
		}
		if transport == TLS {
			conn = tls.Server(conn, &tls.Config{
				MinVersion:     tls.VersionTLS12,
				GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cfg.Certificate() },
			})
		}
		if err := s.serve(newEndpoint(s, newStream(conn, func() { s.removeStream(ip) }), s.limiters.streams)); err != nil {
			s.cfg.Log.Debug().Err(err).Msg("Failed to serve a TURN connection")
		}
	}
}

func (s *Server) addStream(ip netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.streams >= maxStreams || s.perIP[ip] >= maxStreamsPerIP {
		return false
	}
	s.streams++
	s.perIP[ip]++
	return true
}

func (s *Server) removeStream(ip netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams--
	if s.perIP[ip]--; s.perIP[ip] == 0 {
		delete(s.perIP, ip)
	}
}

// stream is one connection, as messages.
type stream struct {
	net.Conn
	reader *bufio.Reader
	born   time.Time
	closed func()
	once   sync.Once
}

func newStream(conn net.Conn, closed func()) *stream {
	return &stream{Conn: conn, reader: bufio.NewReaderSize(conn, inboundSize), born: time.Now(), closed: closed}
}

// expect sets the time by which the next message must have come. Without an allocation that is a time from the connection's
// birth, so that neither silence nor a slow trickle holds a connection open.
func (s *stream) expect(loggedIn bool) {
	deadline := s.born.Add(loginTime)
	if loggedIn {
		deadline = time.Now().Add(idleTime)
	}
	_ = s.Conn.SetReadDeadline(deadline)
}

func (s *stream) retries(error) bool { return false }

var errFraming = errors.New("the stream holds neither STUN nor channel data")

// ReadFrom reads one message (RFC 8656, sections 3.1 and 12.5). A message that is too large to be relayed is skipped.
func (s *stream) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		head, err := s.reader.Peek(4)
		if err != nil {
			return 0, nil, err
		}
		size := int(binary.BigEndian.Uint16(head[2:]))
		switch {
		case head[0]&0xc0 == 0:
			if head, err = s.reader.Peek(8); err != nil {
				return 0, nil, err
			}
			if binary.BigEndian.Uint32(head[4:]) != magicCookie {
				return 0, nil, errFraming
			}
			size += stunHeader
		case isChannelData(head):
			size = 4 + (size+3)&^3 // padded on streams
		default:
			return 0, nil, errFraming
		}
		// pion drops what fills its buffer, since it may have been cut.
		if size >= len(p) {
			if _, err := s.reader.Discard(size); err != nil {
				return 0, nil, err
			}
			continue
		}
		if _, err := io.ReadFull(s.reader, p[:size]); err != nil {
			return 0, nil, err
		}
		return size, s.RemoteAddr(), nil
	}
}

// WriteTo writes one message. A client that does not read is cut off: after part of a message nothing could follow.
func (s *stream) WriteTo(p []byte, _ net.Addr) (int, error) {
	_ = s.Conn.SetWriteDeadline(time.Now().Add(writeTime))
	n, err := s.Conn.Write(p)
	if err != nil {
		_ = s.Close()
	}
	return n, err
}

// Close may be called twice. TLS is not said goodbye to, since that would wait for a client that does not read.
func (s *stream) Close() (err error) {
	s.once.Do(func() {
		if over, ok := s.Conn.(*tls.Conn); ok {
			err = over.NetConn().Close()
		} else {
			err = s.Conn.Close()
		}
		s.closed()
	})
	return err
}

package focus

import (
	"bufio"
	"encoding/binary"
	"errors"
	"net"
	"net/http"

	"github.com/livekit/protocol/livekit"
	"google.golang.org/protobuf/proto"
)

// watchedWriter is the ResponseWriter of a signalling connection.
type watchedWriter struct {
	http.ResponseWriter
	heard   func()               // is called whenever the client has sent something
	servers []*livekit.ICEServer // what the client is told; nil: what LiveKit says
}

// Unwrap is for http.ResponseController.
func (w *watchedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker.
func (w *watchedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return &watchedConn{Conn: conn, heard: w.heard, servers: w.servers}, buffered, nil
}

// maxSignal is the longest message of LiveKit that is read, in bytes.
const maxSignal = 4 << 20

// watchedConn is the client's WebSocket (RFC 6455) after its handshake. It is read and written by one goroutine each.
type watchedConn struct {
	net.Conn
	heard   func()
	servers []*livekit.ICEServer
	pending []byte // of LiveKit's present frame
}

// Read implements net.Conn.
func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heard()
	}
	return n, err
}

// Write implements net.Conn. It passes frames on when they are complete.
func (c *watchedConn) Write(b []byte) (int, error) {
	if c.servers == nil {
		return c.Conn.Write(b)
	}
	c.pending = append(c.pending, b...)
	for {
		head, size, ok := frameSize(c.pending)
		switch {
		case !ok && len(c.pending) < maxFrameHead:
			return len(b), nil
		case size > maxSignal:
			return 0, errors.New("a message of the SFU is too long")
		case !ok || len(c.pending) < head+size:
			return len(b), nil
		}
		frame := c.pending[:head+size]
		if frame[0] == finalBinary {
			if changed, ok := replaceServers(frame[head:], c.servers); ok {
				frame = append(binaryHead(len(changed)), changed...)
			}
		}
		if _, err := c.Conn.Write(frame); err != nil {
			return 0, err
		}
		if c.pending = c.pending[head+size:]; len(c.pending) == 0 {
			c.pending = nil // such messages are rare, and may be long
			return len(b), nil
		}
	}
}

const (
	// finalBinary is the first byte of a whole, uncompressed, binary message.
	finalBinary = 0x82
	// A server's frames are not masked, so the header has the first byte and one, three or nine bytes for the length.
	maxFrameHead = 10
	maxLength7   = 125
	length16     = 126
	length64     = 127
	maxLength16  = 1<<16 - 1
)

// frameSize reads the header of a frame of a server. ok is false if it is not complete.
func frameSize(b []byte) (head, size int, ok bool) {
	if len(b) < 2 {
		return 0, 0, false
	}
	switch n := int(b[1]); {
	case n == length16 && len(b) >= 4:
		return 4, int(binary.BigEndian.Uint16(b[2:])), true
	case n == length64 && len(b) >= maxFrameHead:
		return maxFrameHead, int(min(binary.BigEndian.Uint64(b[2:]), maxSignal+1)), true
	case n <= maxLength7:
		return 2, n, true
	case n > length64: // it is masked, which a server's frames are not
		return 2, maxSignal + 1, true
	}
	return 0, 0, false
}

// binaryHead is the header of a binary message of a server.
func binaryHead(size int) []byte {
	switch {
	case size <= maxLength7:
		return []byte{finalBinary, byte(size)}
	case size <= maxLength16:
		return binary.BigEndian.AppendUint16([]byte{finalBinary, length16}, uint16(size))
	}
	return binary.BigEndian.AppendUint64([]byte{finalBinary, length64}, uint64(size))
}

// replaceServers puts ICE servers into a message of LiveKit that has some: to those who join, and to those who come back.
func replaceServers(message []byte, servers []*livekit.ICEServer) (changed []byte, ok bool) {
	m := new(livekit.SignalResponse)
	if proto.Unmarshal(message, m) != nil {
		return nil, false
	}
	switch m := m.Message.(type) {
	case *livekit.SignalResponse_Join:
		m.Join.IceServers = servers
	case *livekit.SignalResponse_Reconnect:
		m.Reconnect.IceServers = servers
	default:
		return nil, false
	}
	changed, err := proto.Marshal(m)
	return changed, err == nil
}

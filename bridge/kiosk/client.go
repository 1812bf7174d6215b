package kiosk

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"
)

// Close codes of our own (RFC 6455, 7.4.2). The page knows them, too.
const (
	closeReplaced websocket.StatusCode = 4000 // the page must not reconnect by itself
	closeVersion  websocket.StatusCode = 4001 // the page must reload itself
)

const (
	helloTime  = 5 * time.Second  // limit for a client's first message
	writeTime  = 5 * time.Second  // limit for a client to take a message
	closeTime  = time.Second      // limit for a client to close the connection
	pingPeriod = 20 * time.Second // time between pings, which find clients that are gone
	outLength  = 256              // messages that may wait for a client; all clients share the bytes of a state
	// A client may send maxMessages at once, and then as many in each second. A page in full use sends about ten a second.
	maxMessages = 200
)

// client is one WebSocket. Only its writer goroutine sends.
type client struct {
	conn     *websocket.Conn
	observer bool
	id       uint64 // of a page, set by run
	out      chan []byte
	end      chan goodbye // holds one
	kill     func()       // cuts the connection off without a close frame
}

type goodbye struct {
	code   websocket.StatusCode
	reason string
}

// close lets the writer send what is queued and then close the connection. Only the first call counts.
func (c *client) close(code websocket.StatusCode, reason string) {
	select {
	case c.end <- goodbye{code, reason}:
	default:
	}
}

// serveSocket serves one client from its handshake to its end.
func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request) {
	if !s.hasKey(r) {
		s.counters.refused.Add(1)
		s.refusalLog.Warn().Str("file", filepath.Join(s.cfg.DataDir, PageFile)).
			Msg("A program without the page's key was refused. A browser gets the key from the file")
		http.Error(w, "the key of the page is missing or wrong", http.StatusForbidden)
		return
	}
	if !s.enter() {
		s.counters.refused.Add(1)
		http.Error(w, "too many connections", http.StatusServiceUnavailable)
		return
	}
	defer s.leave()
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{subprotocol}}) // on an error Accept has sent the answer
	if err != nil {
		s.counters.refused.Add(1)
		return
	}
	conn.SetReadLimit(maxMessage)
	// Reading does not end with the server's context: that would cut the connection off before the writer has sent the close frame.
	reading, kill := context.WithCancel(context.WithoutCancel(s.ctx))
	defer kill()
	defer context.AfterFunc(s.ctx, func() { time.AfterFunc(2*closeTime, kill) })() // even if the client does not close
	c := &client{conn: conn, out: make(chan []byte, outLength), end: make(chan goodbye, 1), kill: kill}
	// The request's context cannot be used: it ends with the handshake.
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	var writer sync.WaitGroup
	writer.Go(func() {
		c.write(ctx)
		cancel()
	})
	if s.read(ctx, reading, c) {
		select {
		case s.events <- event{client: c, gone: true}:
		case <-s.ctx.Done():
		}
	}
	c.close(websocket.StatusNormalClosure, "")
	writer.Wait()
}

// enter counts a new WebSocket, unless there are too many or the server ends. Close waits for those that were counted.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.ctx.Err() != nil || s.sockets.Load() >= maxClients {
		return false
	}
	s.sockets.Add(1)
	s.serving.Add(1)
	return true
}

func (s *Server) leave() {
	s.sockets.Add(-1)
	s.serving.Done()
}

// read passes messages on until the client ends or breaks the protocol. It says whether run knows the client.
func (s *Server) read(ctx, reading context.Context, c *client) (known bool) {
	first, cancel := context.WithTimeout(reading, helloTime)
	defer cancel()
	data, err := c.next(first)
	if err != nil {
		s.failed(c, err)
		return false
	}
	h, err := decodeHello(data)
	if err != nil {
		s.failed(c, err)
		return false
	}
	c.observer = h.observer
	if !s.tell(ctx, event{client: c, hello: &h}) {
		return false
	}
	limit := rate.NewLimiter(maxMessages, maxMessages)
	for {
		data, err := c.next(reading)
		if err != nil {
			s.failed(c, err)
			return true
		}
		if !limit.Allow() {
			s.failed(c, errFlood)
			return true
		}
		m, err := decode(data)
		if _, press := m.(Shutter); err == nil && c.observer && !press {
			err = errObserver
		}
		if err != nil {
			s.failed(c, err)
			return true
		}
		if !s.tell(ctx, event{client: c, message: m}) {
			return true
		}
	}
}

var (
	errEnded    = errors.New("read page: the connection has ended")
	errTooLong  = errors.New("read page: a message is too long")
	errBinary   = errors.New("read page: a binary message")
	errFlood    = errors.New("read page: too many messages")
	errObserver = errors.New("read page: an observer may press the button only")
)

// next waits for a message. It returns errEnded when the connection has ended, for whatever reason.
func (c *client) next(ctx context.Context) ([]byte, error) {
	kind, data, err := c.conn.Read(ctx)
	switch {
	case errors.Is(err, websocket.ErrMessageTooBig):
		return nil, errTooLong
	case err != nil:
		return nil, errEnded
	case kind != websocket.MessageText:
		return nil, errBinary
	}
	return data, nil
}

// failed closes the connection of a client that broke the protocol. The end of a connection is not a failure.
func (s *Server) failed(c *client, err error) {
	code, reason := websocket.StatusPolicyViolation, "the message was not understood"
	switch {
	case errors.Is(err, errEnded):
		return
	case errors.Is(err, errVersion):
		code, reason = closeVersion, "the page is of another version"
	case errors.Is(err, errFlood):
		reason = "too many messages"
	case errors.Is(err, errTooLong):
		code, reason = websocket.StatusMessageTooBig, "the message is too long"
	}
	n := s.counters.malformed.Add(1)
	s.cfg.Log.Warn().Err(err).Uint64("malformed", n).Msg("A page broke the protocol, its connection is closed")
	c.close(code, reason)
}

func (s *Server) tell(ctx context.Context, e event) bool {
	select {
	case s.events <- e:
		return true
	case <-ctx.Done():
		return false
	}
}

// write sends what is queued, until the connection ends, the server ends or close is called.
func (c *client) write(ctx context.Context) {
	ping := time.NewTicker(pingPeriod)
	defer ping.Stop()
	for {
		select {
		case data := <-c.out:
			if !c.put(ctx, data) {
				_ = c.conn.CloseNow()
				return
			}
		case <-ping.C:
			limit, cancel := context.WithTimeout(ctx, writeTime)
			err := c.conn.Ping(limit)
			cancel()
			if err != nil && ctx.Err() == nil {
				_ = c.conn.CloseNow()
				return
			}
		case <-ctx.Done():
			c.finish(goodbye{websocket.StatusGoingAway, "the program ends"})
			return
		case g := <-c.end:
			for len(c.out) > 0 {
				if !c.put(ctx, <-c.out) {
					break
				}
			}
			c.finish(g)
			return
		}
	}
}

// put writes one message. The end of ctx does not cut it off, since the close frame must follow.
func (c *client) put(ctx context.Context, data []byte) bool {
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTime)
	defer cancel()
	return c.conn.Write(limit, websocket.MessageText, data) == nil
}

// finish sends the close frame and waits a moment for the answer.
func (c *client) finish(g goodbye) {
	limit := time.AfterFunc(closeTime, c.kill)
	defer limit.Stop()
	_ = c.conn.Close(g.code, g.reason)
}

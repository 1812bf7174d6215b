package kiosk

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/queue"
	"multifactorymodel.org/ewindow/bridge/window"
)

const (
	headerTime = 5 * time.Second // for a request to arrive
	maxHeader  = 16 << 10        // bytes of a request's header
	maxClients = 24              // WebSockets at once: the page, the one that replaces it, some observers
)

// Config is what a Server is made of.
type Config struct {
	// Listen is a loopback address and a port, such as 127.0.0.1:8470; port 0 takes a free one. It is required.
	Listen string
	// HandleMessage is called with what the page does, in order, by one goroutine. It must not block. It is required.
	HandleMessage func(Message)
	// DataDir is the folder for the page's key and for [PageFile]. It is required, and must exist.
	DataDir string
	// Log gets start and end at level info, and refused and malformed input at warn. It never gets the key.
	Log zerolog.Logger
}

// Counters is what a Server has counted since its start.
type Counters struct {
	// Pages and Observers are those that were accepted.
	Pages, Observers uint64
	// Refused counts requests with a foreign Host or Origin, sockets without the page's key, and sockets above the limit.
	Refused uint64
	// Malformed counts messages that were not understood; each one ended its connection. Slow counts clients that were cut off because they
	// did not read.
	Malformed, Slow uint64
}

// Server serves the page. Make one with [New]. Its methods may be called from any goroutine and do not block, except for
// Start and Close.
//
// One goroutine, run, owns the clients and the state. Each WebSocket has a goroutine that reads and one that writes. Close waits for all.
type Server struct {
	cfg        Config
	refusalLog zerolog.Logger // for lines that other programs can cause; at most five in ten minutes
	listen     netip.AddrPort
	site       *site
	http       *http.Server
	key        string // set by Start, before anything is served

	counters struct{ pages, observers, refused, malformed, slow atomic.Uint64 }
	sockets  atomic.Int64 // WebSockets that are open

	events chan event // from the clients' readers

	mu      sync.Mutex // guards what follows
	started bool
	closed  bool
	addr    net.Addr
	cancel  context.CancelFunc
	ctx     context.Context
	serving sync.WaitGroup

	commands *queue.Queue[func()] // for run, in order
	done     chan struct{}        // all has ended

	// The rest belongs to run.
	state   State
	bitrate *bitrateMessage // nil before the first
	page    *client
	pages   uint64
	clients map[*client]struct{}
}

// New checks a configuration. It opens nothing.
func New(cfg Config) (*Server, error) {
	if cfg.HandleMessage == nil {
		return nil, errors.New("kiosk: nobody handles the page's messages")
	}
	if cfg.DataDir == "" {
		return nil, errors.New("kiosk: no data folder was given")
	}
	listen, err := parseListen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	site, err := newSite()
	if err != nil {
		return nil, fmt.Errorf("kiosk: %w", err)
	}
	s := &Server{
		cfg: cfg, listen: listen, site: site,
		refusalLog: cfg.Log.Sample(&zerolog.BurstSampler{Burst: 5, Period: 10 * time.Minute}),
		events:     make(chan event),
		commands:   queue.New[func()](),
		done:       make(chan struct{}),
		clients:    make(map[*client]struct{}),
		// This is shown before SetState is called.
		state: State{Screen: window.ScreenShut, Shutter: directory.Shut},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", s.serveSocket)
	mux.Handle("/", site)
	s.http = &http.Server{
		Handler: s.guard(mux), ReadHeaderTimeout: headerTime, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeader,
		ErrorLog: log.New(cfg.Log, "", 0),
	}
	return s, nil
}

// parseListen takes a loopback address; "localhost" means 127.0.0.1.
func parseListen(listen string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("kiosk.listen: %q is not an address with a port, such as 127.0.0.1:8470", listen)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("kiosk.listen: %q is not an address with a port, such as 127.0.0.1:8470", listen)
	}
	if !addr.Addr().IsLoopback() {
		return netip.AddrPort{}, fmt.Errorf("kiosk.listen: %s can be reached from other machines, and who opens the page can open "+
			"the window; use 127.0.0.1", addr.Addr())
	}
	return addr, nil
}

// Start opens the port and serves until Close is called or ctx ends. It returns when the server listens and [PageFile] leads to it.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started || s.closed {
		return errors.New("kiosk: the page's server can be started once only")
	}
	key, err := openKey(s.cfg.DataDir)
	if err != nil {
		return err
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", s.listen.String())
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("kiosk.listen: another program, perhaps another ewindow, already listens on %s; end it, or choose "+
			"another port: %w", s.listen, err)
	}
	if err != nil {
		return fmt.Errorf("kiosk.listen: %w", err)
	}
	if err := writePageFile(s.cfg.DataDir, Address(l.Addr().String(), key)); err != nil {
		_ = l.Close()
		return err
	}
	s.started, s.key = true, key
	s.addr = l.Addr()
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.serving.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Log.Error().Err(err).Msg("The page is not served any more")
			s.cancel()
		}
	})
	s.serving.Go(s.run)
	go func() {
		<-s.ctx.Done()
		s.mu.Lock()
		s.closed = true // no WebSocket is accepted after this
		s.mu.Unlock()
		_ = s.http.Close()
		s.serving.Wait()
		close(s.done)
		s.cfg.Log.Info().Msg("The page's server has ended")
	}()
	s.cfg.Log.Info().Stringer("addr", s.addr).Str("file", filepath.Join(s.cfg.DataDir, PageFile)).Msg("The page is served: open the file in a browser")
	return nil
}

// Addr returns the address that Start listens on, nil before.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Close ends everything and waits for it. It may be called twice.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	started := s.started // if so, cancel is set and does not change
	s.mu.Unlock()
	if started {
		s.cancel()
		<-s.done
	}
	return nil
}

// Counters returns what was counted up to now.
func (s *Server) Counters() Counters {
	c := &s.counters
	return Counters{c.pages.Load(), c.observers.Load(), c.refused.Load(), c.malformed.Load(), c.slow.Load()}
}

// SetState says what is shown from now on. A state that looks like the last one is not sent. The caller must not change the state's lists
// afterwards.
func (s *Server) SetState(state State) {
	s.command(func() {
		if state.Equal(s.state) {
			return
		}
		s.state = state
		if len(s.clients) == 0 {
			return
		}
		data := s.encodeState()
		for c := range s.clients {
			s.send(c, data)
		}
	})
}

// SendOffer sends an SDP offer to the page with this id. It does nothing when that page is gone.
func (s *Server) SendOffer(id uint64, sdp string) {
	s.command(func() {
		if s.page != nil && s.page.id == id {
			s.send(s.page, encode(offerMessage{"offer", id, sdp}))
		}
	})
}

// SendBitrate limits the page's two encoders, in bit/s: bps is for the camera's picture, small is for its small copy (the low simulcast layer).
// 0 means that the picture is not wanted. A page that comes later gets the limits as well.
func (s *Server) SendBitrate(bps, small int) {
	s.command(func() {
		s.bitrate = &bitrateMessage{"bitrate", bps, small}
		if s.page != nil {
			s.send(s.page, encode(s.bitrate))
		}
	})
}

// command lets run call f. A command given before Start waits for it. A command given after the end is dropped.
func (s *Server) command(f func()) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if !closed {
		s.commands.Put(f)
	}
}

// event is what a client's reader tells run. Exactly one field besides client is set.
type event struct {
	client  *client
	hello   *hello
	message Message
	gone    bool
}

// run owns the clients and the state until the end.
func (s *Server) run() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.commands.Ready():
			s.runCommands()
		case e := <-s.events:
			s.runCommands() // those given before the event come first
			s.handle(e)
		}
	}
}

// runCommands calls the waiting commands, in order.
func (s *Server) runCommands() {
	for _, f := range s.commands.Take() {
		f()
	}
}

func (s *Server) handle(e event) {
	c := e.client
	switch {
	case e.hello != nil:
		s.admit(c, *e.hello)
	case e.gone:
		delete(s.clients, c)
		if s.page == c {
			s.page = nil
			s.cfg.Log.Info().Uint64("page_id", c.id).Msg("The page is gone")
			s.cfg.HandleMessage(PageDown{ID: c.id})
		}
	case c == s.page || c.observer:
		if a, ok := e.message.(Answer); ok && a.ID != c.id {
			return // the answer belongs to an offer for an earlier page
		}
		s.cfg.HandleMessage(e.message)
	}
}

// admit accepts a client that has sent hello. A new page replaces the one before.
func (s *Server) admit(c *client, h hello) {
	s.clients[c] = struct{}{}
	if h.observer {
		s.counters.observers.Add(1)
		s.send(c, s.encodeState())
		return
	}
	if old := s.page; old != nil {
		delete(s.clients, old)
		s.send(old, encode(replacedMessage{"replaced"}))
		old.close(closeReplaced, "a newer page took over")
		s.cfg.HandleMessage(PageDown{ID: old.id})
	}
	s.counters.pages.Add(1)
	s.pages++
	c.id = s.pages
	s.page = c
	s.cfg.Log.Info().Uint64("page_id", c.id).Msg("A page has connected")
	s.send(c, s.encodeState())
	if s.bitrate != nil {
		s.send(c, encode(s.bitrate))
	}
	s.cfg.HandleMessage(PageUp{ID: c.id, Shutter: h.shutter})
}

// send queues a message. A client that does not read is cut off, because it would show an old state.
func (s *Server) send(c *client, data []byte) {
	select {
	case c.out <- data:
	default:
		delete(s.clients, c) // so that it is counted once; its reader reports when it is gone
		s.counters.slow.Add(1)
		c.kill()
	}
}

func (s *Server) encodeState() []byte {
	m := s.state.message(time.Now())
	m.Page = s.site.version
	return encode(m)
}

type offerMessage struct {
	Type string `json:"type"`
	ID   uint64 `json:"id"`
	SDP  string `json:"sdp"`
}

type bitrateMessage struct {
	Type  string `json:"type"`
	BPS   int    `json:"bps"`
	Small int    `json:"small"`
}

type replacedMessage struct {
	Type string `json:"type"`
}

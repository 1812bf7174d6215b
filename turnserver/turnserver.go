package turnserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/turnserver/limit"
)

// Limits that need no setting.
const (
	maxStreams       = 1024             // TCP and TLS connections at once
	maxSourceStreams = 64               // of them from one IPv4 address or IPv6 /64: a whole workshop may share one
	loginTime        = 15 * time.Second // for a stream to make its allocation
	writeTime        = 10 * time.Second // for a stream's client to take what is sent
	sweepEvery       = time.Second
	drainEvery       = 100 * time.Millisecond
	inboundSize      = 2048 // bytes of the largest message that is taken; relayed media stays below an Ethernet frame

	// What a source without an allocation may send: enough for the clients of a workshop that share one address to log in at once,
	// and too little to turn forged sources into a flood of answers.
	loginRate  = 20  // messages a second
	loginBurst = 100 // messages
)

// Server is a TURN server. Make one with New.
type Server struct {
	cfg     Config
	reach   atomic.Pointer[reach]
	secrets []string
	nonces  *nonces
	// logins limits messages from sources without an allocation. Streams have a limit of their own, since only their source cannot
	// be forged.
	logins   struct{ datagrams, streams *limit.Rate[netip.Addr] }
	streams  *limit.Semaphore[netip.Addr] // connections by their source
	counters counters

	meter      meter // of all users together
	draining   atomic.Bool
	starting   sync.Mutex // held while Start opens the loops and while Close ends them
	loops      []*loop
	looping    sync.WaitGroup
	lastStream atomic.Uint64
	lastRelay  atomic.Uint64

	mu        sync.Mutex // guards what follows
	started   bool
	closed    bool
	addrs     []net.Addr
	closers   map[closer]struct{}              // listeners and streams that are open
	quotas    map[string]*quota                // by user; the sum of their allocations is total
	quotaLog  zerolog.Logger                   // for refused allocations, one line a minute
	total     int                              // allocations and reserved ports
	reserved  map[[tokenSize]byte]*reservation // by token
	done      sync.WaitGroup                   // one for each of closers
	stop      chan struct{}                    // closed when Close begins
	closeDone chan struct{}                    // closed when Close has ended
}

// closer is a listener or a stream that Close has to end. Its pointer identifies it.
type closer interface{ Close() error }

// New checks a configuration. It opens nothing.
func New(cfg Config) (*Server, error) {
	cfg.Relays = slices.Clone(cfg.Relays)
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("turn server: %w", err)
	}
	s := &Server{
		cfg: cfg, secrets: []string{cfg.Secret}, nonces: newNonces(), closers: make(map[closer]struct{}), quotas: make(map[string]*quota),
		reserved: make(map[[tokenSize]byte]*reservation), streams: limit.NewSemaphore[netip.Addr](maxStreams, maxSourceStreams),
		stop: make(chan struct{}), closeDone: make(chan struct{}),
	}
	s.reach.Store(newReach(&cfg))
	s.meter.bits = int64(cfg.MaxBitrate)
	if cfg.OldSecret != "" {
		s.secrets = append(s.secrets, cfg.OldSecret)
	}
	s.logins.datagrams = limit.NewRate[netip.Addr](loginRate, loginBurst)
	s.logins.streams = limit.NewRate[netip.Addr](loginRate, loginBurst)
	s.quotaLog = cfg.Log.Sample(&zerolog.BurstSampler{Burst: 1, Period: time.Minute})
	return s, nil
}

// Start opens all listeners. When it returns nil they accept clients; on error nothing is left open. It can be called once.
// ctx bounds the opening only: the server runs until Close.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	again := s.started || s.closed
	s.started = true
	s.mu.Unlock()
	if again {
		return errors.New("start turn server: it was started or closed before")
	}
	s.starting.Lock()
	err := s.open(ctx)
	for _, l := range s.loops { // also after an error: a loop closes its sockets when it ends
		s.looping.Go(l.run)
	}
	s.looping.Go(s.sweep)
	s.starting.Unlock()
	if err != nil {
		_ = s.Close()
		return fmt.Errorf("start turn server: %w", err)
	}
	return nil
}

// sweep ends expired reservations, and lets each loop end its expired allocations, until Close.
func (s *Server) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case now := <-tick.C:
			s.endReservations(func(r *reservation) bool { return !now.Before(r.until) || r.reach != s.reach.Load() })
		}
		for _, l := range s.loops {
			l.post(l.sweep)
		}
	}
}

// open makes the loops and opens the listeners.
func (s *Server) open(ctx context.Context) error {
	for range runtime.GOMAXPROCS(0) {
		l, err := s.newLoop()
		if err != nil {
			return err
		}
		s.loops = append(s.loops, l)
	}
	for _, l := range s.cfg.Listen {
		addr, err := s.listen(ctx, l)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", l, err)
		}
		s.mu.Lock()
		s.addrs = append(s.addrs, addr)
		s.mu.Unlock()
		s.cfg.Log.Info().Str("transport", string(l.Transport)).Stringer("addr", addr).Msg("TURN server listens")
	}
	return nil
}

// listen opens one listener.
func (s *Server) listen(ctx context.Context, l Listen) (net.Addr, error) {
	if l.Transport == UDP {
		// The loops' sockets share their port with each other, and would share it with another program of this user, too. A socket
		// that shares nothing finds out first whether the port is free.
		probe, err := newSocket(l.Addr, forProbe)
		if err != nil {
			return nil, err
		}
		closeSocket(probe)
		ap := l.Addr
		for _, loop := range s.loops {
			local, err := loop.listen(ap)
			if err != nil {
				return nil, err
			}
			ap = netip.AddrPortFrom(ap.Addr(), local.Port()) // the others take the port that the system chose for the first
		}
		return net.UDPAddrFromAddrPort(ap), nil
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", l.Addr.String())
	if err != nil {
		return nil, err
	}
	if !s.track(listener) {
		return nil, errors.Join(net.ErrClosed, listener.Close())
	}
	decrypt := func(conn net.Conn) net.Conn { return conn }
	if l.Transport == TLS {
		decrypt = func(conn net.Conn) net.Conn {
			return tls.Server(conn, &tls.Config{
				MinVersion:     tls.VersionTLS12,
				GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cfg.Certificate() },
			})
		}
	}
	go func() { _ = s.accept(listener, l.Transport, decrypt) }() // tracked: Close waits for it
	return listener.Addr(), nil
}

// Serve speaks TURN on the connections of a listener. The connections deliver TURN messages: where TURN shares a port with another protocol, TLS
// has been decrypted before. transport says how the clients came, TCP or TLS. The log names it, and over TLS each message is written by itself.
// Serve returns when the listener or the server is closed. If the server does not run, Serve closes the listener.
func (s *Server) Serve(l net.Listener, transport Transport) error {
	if len(s.loops) == 0 || !s.track(l) {
		return errors.Join(net.ErrClosed, l.Close())
	}
	return s.accept(l, transport, func(conn net.Conn) net.Conn { return conn })
}

// Addrs returns the addresses of the listeners in the order of Config.Listen, with the ports that the system chose.
func (s *Server) Addrs() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]net.Addr(nil), s.addrs...)
}

// Counters returns what was counted so far.
func (s *Server) Counters() Counters {
	c := s.counters.read()
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Allocations, c.Streams = s.total-len(s.reserved), s.streams.Used()
	return c
}

// Drain refuses new allocations from now on. It returns when the last allocation has ended, or when ctx ends. Call Close afterwards.
func (s *Server) Drain(ctx context.Context) {
	s.draining.Store(true)
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for s.Counters().Allocations > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Close ends all listeners, streams and allocations and waits for them. It may be called more than once, and before Start.
func (s *Server) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	open := make([]closer, 0, len(s.closers))
	for c := range s.closers {
		open = append(open, c)
	}
	s.mu.Unlock()
	if !first {
		<-s.closeDone
		return nil
	}
	close(s.stop)
	var errs []error
	for _, c := range open {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	s.done.Wait()
	s.starting.Lock()
	defer s.starting.Unlock()
	for _, l := range s.loops {
		l.stop()
	}
	s.looping.Wait()
	s.endReservations(func(*reservation) bool { return true }) // no loop or stream is left that could add one
	if len(s.loops) > 0 {
		s.cfg.Log.Info().Msg("TURN server closed")
	}
	close(s.closeDone)
	return errors.Join(errs...)
}

// track notes something that Close has to end and to wait for. It returns false when the server is closed.
func (s *Server) track(c closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closers[c] = struct{}{}
		s.done.Add(1)
	}
	return !s.closed
}

// untrack is called once for each tracked c, when nothing uses it any more.
func (s *Server) untrack(c closer) {
	s.mu.Lock()
	delete(s.closers, c)
	s.mu.Unlock()
	s.done.Done()
}

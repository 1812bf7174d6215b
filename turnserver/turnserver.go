// Package turnserver is a TURN relay (RFC 8656) that is closed by default.
//
// [New] checks a [Config], [Server.Start] opens every listener or none, [Server.Close] ends everything and waits. Clients log in
// with the time-limited credentials of the "TURN REST API" draft (draft-uberti-behave-turn-rest-00), which coturn, LiveKit and
// Matrix homeservers hand out too; [Credentials] makes them.
//
// The protocol is pion's. This package adds what pion leaves to its user, and what an open relay is abused for:
//
//   - Peers: relaying goes only to Config.AllowedPeers, address and port, in both directions. Private, loopback and other
//     special ranges are opened only by entries that lie inside them. Relays are IPv4; every IPv6 peer is refused.
//   - Credentials: their time is checked when an allocation is made; a call that runs over it goes on. An allocation answers
//     only to the user who made it. A request that was heard on the wire and is sent again from elsewhere is dropped.
//   - Floods: what comes without an allocation is limited for each source address, in fixed memory, before anything is
//     answered; streams must log in within seconds, and their number is limited.
//   - Quotas for allocations in all and for each user; relay ports from one range; TCP relaying (RFC 6062) is refused.
//
// Goroutines: one for each UDP listener and stream (pion's), one for each TCP or TLS listener and one for each allocation.
// All methods may be called from any goroutine.
package turnserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Limits that need no setting.
const (
	minSecret       = 16               // bytes
	maxStreams      = 1024             // TCP and TLS connections at once
	maxStreamsPerIP = 64               // of them from one address: a whole workshop may sit behind one
	loginTime       = 15 * time.Second // for a stream to make its allocation
	idleTime        = time.Hour        // the longest lifetime of an allocation
	writeTime       = 10 * time.Second // for a stream's client to take what is sent
)

// Config is what a Server is made of.
type Config struct {
	// Listen holds one address or more.
	Listen []Listen
	// Certificate returns the certificate of TLS listeners; needed if there is one. It is asked at each handshake, so that a
	// renewed certificate can be handed out.
	Certificate func() (*tls.Certificate, error)
	// PublicIP is the IPv4 address that clients are told as the relay's.
	PublicIP netip.Addr
	// RelayIP is the local IPv4 address that relay sockets are bound to; the zero value binds them to all.
	RelayIP netip.Addr
	// MinPort and MaxPort are the first and last relay port; 0 and 0 let the system choose.
	MinPort, MaxPort uint16
	// Realm is the protocol's name for this server; needed.
	Realm string
	// Secret is shared with those who make credentials; at least 16 bytes.
	Secret string
	// AllowedPeers is what may be relayed to; empty: nothing.
	AllowedPeers []Peer
	// MaxAllocations and MaxAllocationsPerUser limit allocations; both must be above 0. A user is the part of the user name
	// after the time, so fresh credentials do not bring a fresh quota.
	MaxAllocations, MaxAllocationsPerUser int
	// Log gets births, deaths and addresses at info, and what pion has to say at debug.
	Log zerolog.Logger
}

// Server is a TURN server. Make one with New.
type Server struct {
	cfg      Config
	policy   policy
	limiters struct{ datagrams, streams *limiter } // apart, since only a stream's source cannot be forged
	counters counters

	mu        sync.Mutex // guards what follows
	started   bool
	closed    bool
	addrs     []net.Addr
	closers   map[closer]struct{} // listeners and endpoints that are open; relay sockets end with their endpoint
	perUser   map[string]int      // allocations by user; their sum is total
	total     int
	perIP     map[netip.Addr]int // streams by address; their sum is streams
	streams   int
	done      sync.WaitGroup // one for each of closers and each relay socket
	stop      chan struct{}  // closed when Close begins
	closeDone chan struct{}  // closed when Close has ended
}

// closer is something open that Close has to end. Its pointer identifies it.
type closer interface{ Close() error }

// New checks a configuration. It opens nothing.
func New(cfg Config) (*Server, error) {
	if len(cfg.Listen) == 0 {
		return nil, errors.New("turn server: no address to listen on")
	}
	for _, l := range cfg.Listen {
		if _, err := ParseListen(l.String()); err != nil {
			return nil, fmt.Errorf("turn server: %w", err)
		}
		if l.Transport == TLS && cfg.Certificate == nil {
			return nil, fmt.Errorf("turn server: %s needs a certificate", l)
		}
	}
	for _, p := range cfg.AllowedPeers {
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("turn server: allowed peer: %w", err)
		}
	}
	if !cfg.RelayIP.IsValid() {
		cfg.RelayIP = netip.IPv4Unspecified()
	}
	switch {
	case !cfg.PublicIP.Is4() || cfg.PublicIP.IsUnspecified():
		return nil, errors.New("turn server: the public address must be an IPv4 address")
	case !cfg.RelayIP.Is4():
		return nil, errors.New("turn server: the relay address must be an IPv4 address")
	case cfg.MinPort > cfg.MaxPort || (cfg.MinPort == 0 && cfg.MaxPort != 0):
		return nil, fmt.Errorf("turn server: relay ports %d to %d are no range", cfg.MinPort, cfg.MaxPort)
	case cfg.Realm == "" || len(cfg.Realm) > 128:
		return nil, errors.New("turn server: the realm must have 1 to 128 bytes")
	case len(cfg.Secret) < minSecret:
		return nil, fmt.Errorf("turn server: the secret must have %d bytes or more", minSecret)
	case cfg.MaxAllocations <= 0 || cfg.MaxAllocationsPerUser <= 0:
		return nil, errors.New("turn server: the limits of allocations must be above 0")
	}
	s := &Server{
		cfg: cfg, policy: cfg.AllowedPeers,
		closers: make(map[closer]struct{}), perUser: make(map[string]int), perIP: make(map[netip.Addr]int),
		stop: make(chan struct{}), closeDone: make(chan struct{}),
	}
	s.limiters.datagrams, s.limiters.streams = newLimiter(time.Now()), newLimiter(time.Now())
	return s, nil
}

// Start opens all listeners; when it returns nil they accept clients. On error nothing is left open. It can be called once.
// ctx bounds the opening only: the server runs until Close.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	again := s.started || s.closed
	s.started = true
	s.mu.Unlock()
	if again {
		return errors.New("start turn server: it was started or closed before")
	}
	for _, l := range s.cfg.Listen {
		addr, err := s.listen(ctx, l)
		if err != nil {
			_ = s.Close()
			return fmt.Errorf("start turn server: listen on %s: %w", l, err)
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
	var lc net.ListenConfig
	if l.Transport == UDP {
		conn, err := lc.ListenPacket(ctx, "udp", l.Addr.String())
		if err != nil {
			return nil, err
		}
		// Many clients share this one socket; a picture's burst must not overflow it. The system may grant less.
		_ = conn.(*net.UDPConn).SetReadBuffer(1 << 20)
		return conn.LocalAddr(), s.serve(newEndpoint(s, &datagrams{UDPConn: conn.(*net.UDPConn)}, s.limiters.datagrams))
	}
	listener, err := lc.Listen(ctx, "tcp", l.Addr.String())
	if err != nil {
		return nil, err
	}
	if !s.track(listener) {
		return nil, errors.Join(net.ErrClosed, listener.Close())
	}
	go s.accept(listener, l.Transport)
	return listener.Addr(), nil
}

// Addrs returns the addresses of the listeners in the order of Config.Listen, with the ports that the system chose.
func (s *Server) Addrs() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]net.Addr(nil), s.addrs...)
}

// Counters returns what happened so far.
func (s *Server) Counters() Counters {
	c := s.counters.read()
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Allocations, c.Streams = s.total, s.streams
	return c
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
	if len(open) > 0 {
		s.cfg.Log.Info().Msg("TURN server closed")
	}
	close(s.closeDone)
	return errors.Join(errs...)
}

// enter notes that something begins that Close has to wait for. It reports false when the server is closed.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.done.Add(1)
	}
	return !s.closed
}

// track is enter for something that Close has to end, too.
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

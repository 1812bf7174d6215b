// Package turnserver is a TURN relay (RFC 8656) that is closed by default.
//
// [New] checks a [Config], [Server.Start] opens every listener or none, [Server.Close] ends everything and waits. Clients log in
// with the time-limited credentials of the "TURN REST API" draft (draft-uberti-behave-turn-rest-00), which coturn, LiveKit and
// Matrix homeservers hand out too; [Credentials] makes them.
//
// What an open relay is abused for is refused:
//
//   - Peers: relaying goes only to Config.AllowedPeers, address and port, in both directions. Private, loopback and other
//     special ranges are opened only by entries that lie inside them. What dresses an IPv4 address in an IPv6 one is judged as that address or
//     refused.
//   - Credentials: their time is checked when an allocation is made; a call that runs over it goes on. An allocation answers
//     only to the user who made it. A request that was heard on the wire and is sent again from elsewhere is dropped.
//   - Floods: what comes without an allocation is limited for each source address, in fixed memory, before anything is
//     answered; streams must log in within seconds, and their number is limited.
//   - Quotas for allocations in all and for each user; relay ports from one range; TCP relaying (RFC 6062) is refused.
//
// Each core has a loop, one thread that owns a UDP socket for each listener (SO_REUSEPORT: the system deals clients out to them by their address)
// and the relay sockets of those clients. It waits for all of them at once, and takes and sends packets many at a time (recvmmsg, sendmmsg,
// UDP_SEGMENT), so that what belongs to a client is touched by one thread and needs no lock. Clients that come by a stream have a goroutine that
// reads and one that writes; their relay sockets are a loop's, too. All methods may be called from any goroutine.
//
// It runs on Linux.
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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/turnserver/limit"
)

// Limits that need no setting.
const (
	minSecret        = 16               // bytes
	maxStreams       = 1024             // TCP and TLS connections at once
	maxSourceStreams = 64               // of them from one address (IPv4) or /64 (IPv6): a whole workshop may sit behind one
	loginTime        = 15 * time.Second // for a stream to make its allocation
	writeTime        = 10 * time.Second // for a stream's client to take what is sent
	sweepEvery       = time.Second
	drainEvery       = 100 * time.Millisecond
	inboundSize      = 2048 // bytes of the largest message that is taken; relayed media stays below an Ethernet frame

	// What a source without an allocation may send: enough for the clients of a workshop behind one address to log in at once,
	// too little to make a flood of answers out of forged sources.
	loginRate  = 20  // messages a second
	loginBurst = 100 // messages
)

// Config is what a Server is made of.
type Config struct {
	// Listen holds one address or more.
	Listen []Listen
	// Certificate returns the certificate of TLS listeners; needed if there is one. It is asked at each handshake, so that a
	// renewed certificate can be handed out.
	Certificate func() (*tls.Certificate, error)
	// Relays are the addresses that relaying goes by, one or more. Allocations take those of their family in turn.
	Relays []Relay
	// MinPort and MaxPort are the first and last relay port; 0 and 0 let the system choose. A range of them on this server's own addresses may be
	// relayed to, so that two clients reach each other who both have nothing but this relay.
	MinPort, MaxPort uint16
	// Realm is the protocol's name for this server; needed.
	Realm string
	// Secret is shared with those who make credentials; at least 16 bytes. OldSecret is good as well, if there is one, while a new one is
	// being brought to all who make credentials.
	Secret, OldSecret string
	// AllowedPeers is what may be relayed to; empty: nothing.
	AllowedPeers []Peer
	// MaxAllocations and MaxAllocationsPerUser limit allocations, and ports reserved for them; both must be above 0. A user is the part of the user name
	// after the time, so fresh credentials do not bring a fresh quota.
	MaxAllocations, MaxAllocationsPerUser int
	// MaxBitrate and MaxBitratePerUser limit what is relayed, both directions together, in bit/s; 0 for no limit. What is above is dropped.
	MaxBitrate, MaxBitratePerUser int
	// Log gets births and deaths of allocations, and addresses.
	Log zerolog.Logger
}

// Relay is an address that relay sockets have.
type Relay struct {
	// Public is the address that clients and peers are told.
	Public netip.Addr
	// Local is the address of this machine that sockets are bound to, where it is another one, as behind a one-to-one NAT; the zero value binds
	// them to all of the family.
	Local netip.Addr
}

// ParseRelay reads an address to relay by as configuration files write it: 203.0.113.7, or 203.0.113.7/10.0.0.5 with the local address that it
// is translated to.
func ParseRelay(text string) (r Relay, err error) {
	public, local, mapped := strings.Cut(text, "/")
	if r.Public, err = netip.ParseAddr(public); err == nil && mapped {
		r.Local, err = netip.ParseAddr(local)
	}
	if err != nil {
		return Relay{}, fmt.Errorf("%q is not an address such as 203.0.113.7, or 203.0.113.7/10.0.0.5 behind a one-to-one NAT", text)
	}
	if err := r.check(); err != nil {
		return Relay{}, fmt.Errorf("%q: %w", text, err)
	}
	return r, nil
}

// check refuses addresses that cannot be relayed by.
func (r *Relay) check() error {
	r.Public, r.Local = r.Public.Unmap(), r.Local.Unmap()
	switch {
	case !r.Public.IsValid() || r.Public.IsUnspecified() || r.Public.IsMulticast() || r.Public.Zone() != "":
		return errors.New("a public address is needed")
	case !r.Local.IsValid() && r.Public.Is4():
		r.Local = netip.IPv4Unspecified()
	case !r.Local.IsValid():
		r.Local = netip.IPv6Unspecified()
	case r.Local.Is4() != r.Public.Is4():
		return fmt.Errorf("%s and %s are not of one family", r.Public, r.Local)
	}
	return nil
}

// Server is a TURN server. Make one with New.
type Server struct {
	cfg     Config
	policy  policy
	relays  map[byte][]Relay // by family
	secrets []string
	nonces  *nonces
	// logins limits messages from sources without an allocation. Streams have a limit of their own, since only their source cannot
	// be forged.
	logins   struct{ datagrams, streams *limit.Rate[netip.Addr] }
	streams  *limit.Semaphore[netip.Addr] // connections by their source
	counters counters

	meter      meter
	draining   atomic.Bool
	starting   sync.Mutex // held while Start opens and Close ends the loops
	loops      []*loop
	looping    sync.WaitGroup
	lastStream atomic.Uint64
	lastRelay  atomic.Uint64

	mu        sync.Mutex // guards what follows
	started   bool
	closed    bool
	addrs     []net.Addr
	closers   map[closer]struct{} // listeners and streams that are open
	accounts  map[string]*account // by user; the sum of their allocations is total
	total     int
	reserved  map[[tokenSize]byte]*reservation // by token; each counts as an allocation of its account
	done      sync.WaitGroup                   // one for each of closers
	stop      chan struct{}                    // closed when Close begins
	closeDone chan struct{}                    // closed when Close has ended
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
	cfg.Relays = slices.Clone(cfg.Relays)
	for i := range cfg.Relays {
		if err := cfg.Relays[i].check(); err != nil {
			return nil, fmt.Errorf("turn server: relay: %w", err)
		}
	}
	switch {
	case len(cfg.Relays) == 0:
		return nil, errors.New("turn server: no address to relay by")
	case cfg.MinPort > cfg.MaxPort || (cfg.MinPort == 0 && cfg.MaxPort != 0):
		return nil, fmt.Errorf("turn server: relay ports %d to %d are no range", cfg.MinPort, cfg.MaxPort)
	case cfg.Realm == "" || len(cfg.Realm) > 128:
		return nil, errors.New("turn server: the realm must have 1 to 128 bytes")
	case len(cfg.Secret) < minSecret, cfg.OldSecret != "" && len(cfg.OldSecret) < minSecret:
		return nil, fmt.Errorf("turn server: the secret must have %d bytes or more", minSecret)
	case cfg.MaxBitrate < 0 || cfg.MaxBitratePerUser < 0:
		return nil, errors.New("turn server: the limits of the bitrate must not be below 0")
	case cfg.MaxAllocations <= 0 || cfg.MaxAllocationsPerUser <= 0:
		return nil, errors.New("turn server: the limits of allocations must be above 0")
	}
	s := &Server{
		cfg: cfg, policy: slices.Clone(cfg.AllowedPeers), secrets: []string{cfg.Secret}, nonces: newNonces(),
		relays: make(map[byte][]Relay), closers: make(map[closer]struct{}), accounts: make(map[string]*account),
		reserved: make(map[[tokenSize]byte]*reservation), streams: limit.NewSemaphore[netip.Addr](maxStreams, maxSourceStreams),
		stop: make(chan struct{}), closeDone: make(chan struct{}),
	}
	for _, r := range cfg.Relays {
		family := familyOf(r.Public)
		s.relays[family] = append(s.relays[family], r)
		if cfg.MinPort > 0 {
			// Two clients that both have nothing but this relay reach each other by it.
			s.policy = append(s.policy, Peer{netip.PrefixFrom(r.Public, r.Public.BitLen()), cfg.MinPort, cfg.MaxPort})
		}
	}
	s.meter.bits = int64(cfg.MaxBitrate)
	if cfg.OldSecret != "" {
		s.secrets = append(s.secrets, cfg.OldSecret)
	}
	s.logins.datagrams = limit.NewRate[netip.Addr](loginRate, loginBurst)
	s.logins.streams = limit.NewRate[netip.Addr](loginRate, loginBurst)
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
	s.starting.Lock()
	err := s.open(ctx)
	for _, l := range s.loops { // also to be ended
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

// sweep ends reservations whose time is over, and has the loops do so with allocations.
func (s *Server) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case now := <-tick.C:
			s.endReservations(func(r *reservation) bool { return !now.Before(r.until) })
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
		// The sockets below share their port with each other, and would with any other program of ours: this one does not.
		alone, err := newSocket(l.Addr, forProbe)
		if err != nil {
			return nil, err
		}
		closeSocket(alone)
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
	go func() { _ = s.accept(listener, l.Transport, decrypt) }()
	return listener.Addr(), nil
}

// Serve speaks TURN on connections that a listener hands out ready to be read: the TLS of those from a port that is shared with something else
// has ended before. transport is how their clients came, TCP or TLS: the log names it, and by TLS each message is written by itself. Serve returns
// when the listener or the server is closed, and closes the listener of a server that does not run.
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

// Counters returns what happened so far.
func (s *Server) Counters() Counters {
	c := s.counters.read()
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Allocations, c.Streams = s.total-len(s.reserved), s.streams.Used()
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
	s.starting.Lock()
	defer s.starting.Unlock()
	for _, l := range s.loops {
		l.stop()
	}
	s.looping.Wait()
	s.endReservations(func(*reservation) bool { return true }) // nobody is left who could add one
	if len(s.loops) > 0 {
		s.cfg.Log.Info().Msg("TURN server closed")
	}
	close(s.closeDone)
	return errors.Join(errs...)
}

// track notes something that Close has to end and to wait for. It reports false when the server is closed.
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

// takePlaces takes n places for allocations of a user; nil when there are not as many.
func (s *Server) takePlaces(user string, n int) *account {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accounts[user]
	if a == nil {
		a = &account{user: user, meter: meter{bits: int64(s.cfg.MaxBitratePerUser)}}
	}
	if s.closed || s.total+n > s.cfg.MaxAllocations || a.allocations+n > s.cfg.MaxAllocationsPerUser {
		return nil
	}
	s.accounts[user] = a
	s.total += n
	a.allocations += n
	return a
}

// releasePlaces gives n places back.
func (s *Server) releasePlaces(a *account, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release(a, n)
}

// release is releasePlaces for those who hold the mutex.
func (s *Server) release(a *account, n int) {
	s.total -= n
	if a.allocations -= n; a.allocations == 0 {
		delete(s.accounts, a.user)
	}
}

// Drain refuses new allocations from now on, and returns when the last one has ended or ctx has. Close comes after it.
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

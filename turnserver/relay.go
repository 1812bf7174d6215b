package turnserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
)

// relays makes relay sockets for pion.
type relays struct{ server *Server }

// Validate is pion's question whether everything is set; New has answered it.
func (r relays) Validate() error { return nil }

// AllocatePacketConn opens a relay socket on a port of the range, or on the wanted one.
func (r relays) AllocatePacketConn(_ string, wanted int) (net.PacketConn, net.Addr, error) {
	s := r.server
	if !s.enter() {
		return nil, nil, net.ErrClosed
	}
	conn, err := s.relaySocket(wanted)
	if err != nil {
		s.done.Done()
		return nil, nil, err
	}
	port := conn.LocalAddr().(*net.UDPAddr).Port
	return &relay{UDPConn: conn, server: s}, &net.UDPAddr{IP: s.cfg.PublicIP.AsSlice(), Port: port}, nil
}

// AllocateConn would be RFC 6062.
func (r relays) AllocateConn(string, int) (net.Conn, net.Addr, error) {
	return nil, nil, errors.New("TCP relaying is refused")
}

// relaySocket tries the ports of the range from a random one on: which port comes next cannot be guessed, and the last free
// one is found.
func (s *Server) relaySocket(wanted int) (*net.UDPConn, error) {
	first, count, start := int(s.cfg.MinPort), int(s.cfg.MaxPort-s.cfg.MinPort)+1, 0
	if wanted != 0 {
		first, count = wanted, 1
	} else {
		start = rand.IntN(count)
	}
	var err error
	for i := range count {
		port := first + (start+i)%count
		var conn *net.UDPConn
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.cfg.RelayIP, uint16(port))))
		if err == nil {
			_ = conn.SetReadBuffer(1 << 19) // for a key frame's burst; the system may grant less
			return conn, nil
		}
	}
	return nil, fmt.Errorf("open relay socket on %s, ports %d to %d: %w", s.cfg.RelayIP, s.cfg.MinPort, s.cfg.MaxPort, err)
}

// relay is the socket of one allocation. It lets nothing through that the policy forbids: pion's permissions know no ports,
// and two checks that must agree are worth having where a mistake opens somebody's network.
type relay struct {
	*net.UDPConn
	server *Server
	once   sync.Once
}

// ReadFrom returns the next packet of an allowed peer.
func (r *relay) ReadFrom(p []byte) (int, net.Addr, error) {
	c := &r.server.counters
	for {
		n, source, err := r.UDPConn.ReadFromUDPAddrPort(p)
		if err != nil {
			return 0, nil, err
		}
		if !r.server.policy.peer(source) {
			c.droppedPeer.Add(1)
			continue
		}
		c.fromPeers.Add(1)
		c.fromPeersBytes.Add(uint64(n))
		return n, net.UDPAddrFromAddrPort(source), nil
	}
}

// WriteTo sends to an allowed peer. For others the packet is dropped without an error, as RFC 8656, section 11 has it.
func (r *relay) WriteTo(p []byte, addr net.Addr) (int, error) {
	c := &r.server.counters
	peer := addrPort(addr)
	if !r.server.policy.peer(peer) {
		c.droppedPeer.Add(1)
		return len(p), nil
	}
	n, err := r.UDPConn.WriteToUDPAddrPort(p, peer)
	if err == nil {
		c.toPeers.Add(1)
		c.toPeersBytes.Add(uint64(n))
	}
	return n, err
}

// Close may be called twice. It returns nil always: pion stops closing its other allocations at the first error.
func (r *relay) Close() error {
	r.once.Do(func() {
		_ = r.UDPConn.Close()
		r.server.done.Done()
	})
	return nil
}

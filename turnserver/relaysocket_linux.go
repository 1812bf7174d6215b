package turnserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
)

// relaySocket opens a relay socket on one of some addresses. even demands an even port. pair, which is used together with even, opens a second socket on the
// next port. Without pair next is -1.
func (s *Server) relaySocket(relays []Relay, even, pair bool) (fd, next int, relayed netip.AddrPort, err error) {
	if len(relays) == 0 {
		return -1, -1, netip.AddrPort{}, errNoRelay // they have just been replaced
	}
	start := int(s.lastRelay.Add(1) % uint64(len(relays)))
	for i := range relays { // if one address has no port left, another one may
		r := relays[(start+i)%len(relays)]
		var port uint16
		if fd, next, port, err = s.socketsOn(r.Local, even, pair); err == nil {
			return fd, next, netip.AddrPortFrom(r.Public, port), nil
		}
	}
	return -1, -1, netip.AddrPort{}, err
}

// socketsOn opens a relay socket, or a pair of them, on one address. It tries all ports of the range, beginning with a random one, so
// that nobody can guess the next port.
func (s *Server) socketsOn(local netip.Addr, even, pair bool) (fd, next int, port uint16, err error) {
	first, count, start := int(s.cfg.MinPort), int(s.cfg.MaxPort-s.cfg.MinPort)+1, 0
	if first == 0 { // the system chooses the port; an even one comes after a few tries
		count = 1
		if even {
			count = 64
		}
	} else {
		start = rand.IntN(count)
	}
	for i := range count {
		want := uint16(0)
		if first != 0 {
			want = uint16(first + (start+i)%count)
			if even && want%2 != 0 || pair && want == s.cfg.MaxPort {
				continue
			}
		}
		if fd, err = newSocket(netip.AddrPortFrom(local, want), forRelay); err != nil {
			continue
		}
		var ap netip.AddrPort
		if ap, err = boundTo(fd); err == nil && (!even || ap.Port()%2 == 0) {
			if next = -1; !pair {
				return fd, next, ap.Port(), nil
			}
			if next, err = newSocket(netip.AddrPortFrom(local, ap.Port()+1), forRelay); err == nil {
				return fd, next, ap.Port(), nil
			}
		}
		closeSocket(fd)
	}
	return -1, -1, 0, fmt.Errorf("open relay socket on %s, ports %d to %d: %w", local, s.cfg.MinPort, s.cfg.MaxPort, errors.Join(err, errNoPort))
}

var (
	errNoPort  = errors.New("no port is free")
	errNoRelay = errors.New("there is no address of this family")
)

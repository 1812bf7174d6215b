package turnserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sizes of the system's buffers. Many clients share a listener's, a picture's burst must not overflow a relay's.
const (
	listenerBuffer = 4 << 20
	relayBuffer    = 1 << 19
)

// sockaddr is a transport address as the system has it, IPv4 or IPv6 by the socket's family.
type sockaddr struct {
	raw  unix.RawSockaddrInet6 // the longer one
	size uint32
}

// set writes an address for a socket of a family; an IPv6 socket takes IPv4 as IPv4-mapped.
func (n *sockaddr) set(ap netip.AddrPort, family uint16) {
	port := networkOrder(ap.Port())
	if family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&n.raw))
		*v4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: ap.Addr().Unmap().As4()}
		n.size = unix.SizeofSockaddrInet4
		return
	}
	n.raw = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port, Addr: ap.Addr().As16()}
	n.size = unix.SizeofSockaddrInet6
}

// addr reads what the system wrote.
func (n *sockaddr) addr() (a addr) {
	a.port = networkOrder(n.raw.Port)
	if n.raw.Family == unix.AF_INET {
		a.ip[10], a.ip[11] = 0xff, 0xff
		copy(a.ip[12:], (*unix.RawSockaddrInet4)(unsafe.Pointer(&n.raw)).Addr[:])
		return a
	}
	a.ip = n.raw.Addr
	return a
}

// networkOrder turns a port from this machine's byte order into the network's, or back.
func networkOrder(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}

// socketUse is what a UDP socket is for.
type socketUse int

const (
	// forRelay is an allocation's.
	forRelay socketUse = iota
	// forProbe is one that only says whether nobody else has the port.
	forProbe
	// forClients is a listener's. It may be opened again and again: the system deals out what comes by where it comes from.
	forClients
)

// newSocket opens a UDP socket that never blocks, bound to an address. A listener on [::] takes IPv4 as well.
func newSocket(ap netip.AddrPort, use socketUse) (fd int, err error) {
	family := unix.AF_INET6
	if ap.Addr().Unmap().Is4() {
		family = unix.AF_INET
	}
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	buffer := relayBuffer
	if use == forClients {
		buffer = listenerBuffer
	}
	// The sizes are wishes, beyond what the system's settings allow only for those with the power over its network.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, buffer)
	if use == forClients {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil && family == unix.AF_INET6 {
		only := 1
		if ap.Addr().IsUnspecified() && use != forRelay {
			only = 0
		}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
	}
	if err == nil {
		var name unix.Sockaddr
		if family == unix.AF_INET {
			name = &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().Unmap().As4()}
		} else {
			name = &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
		}
		err = os.NewSyscallError("bind", unix.Bind(fd, name))
	}
	if err != nil {
		closeSocket(fd)
		return -1, err
	}
	return fd, nil
}

func closeSocket(fd int) { _ = unix.Close(fd) }

// boundTo is the address that a socket is bound to.
func boundTo(fd int) (netip.AddrPort, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
	}
	switch n := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(n.Addr), uint16(n.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(n.Addr), uint16(n.Port)), nil
	}
	return netip.AddrPort{}, errors.New("a socket of another family")
}

// relaySocket opens a relay socket of a family. It tries the ports of the range from a random one on: which port comes next cannot be guessed,
// and the last free one is found. With pair it opens another one on the port after an even one; else next is -1.
func (s *Server) relaySocket(family byte, even, pair bool) (fd, next int, relayed netip.AddrPort, err error) {
	relays := s.relays[family]
	turn := int(s.lastRelay.Add(1) % uint64(len(relays)))
	for i := range relays { // where one has no port left another one may
		r := relays[(turn+i)%len(relays)]
		var port uint16
		if fd, next, port, err = s.socketsOn(r.Local, even, pair); err == nil {
			return fd, next, netip.AddrPortFrom(r.Public, port), nil
		}
	}
	return -1, -1, netip.AddrPort{}, err
}

// socketsOn opens a relay socket, or a pair of them, on one address.
func (s *Server) socketsOn(local netip.Addr, even, pair bool) (fd, next int, port uint16, err error) {
	first, count, start := int(s.cfg.MinPort), int(s.cfg.MaxPort-s.cfg.MinPort)+1, 0
	if first == 0 { // any port that the system chooses; an even one comes soon
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

var errNoPort = errors.New("no port is free")

// systemFamily is the system's number of a family of TURN's.
func systemFamily(family byte) uint16 {
	if family == familyIPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// sendTo sends one datagram; false when the system does not take it now.
func sendTo(fd int, name *sockaddr, p []byte) bool {
	var at unsafe.Pointer
	if len(p) > 0 {
		at = unsafe.Pointer(&p[0])
	}
	_, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(at), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL,
		uintptr(unsafe.Pointer(&name.raw)), uintptr(name.size))
	return errno == 0
}

// sendWhole is sendTo for a datagram that must not be fragmented on its way (DF in IPv4, no fragment header in IPv6); false as well when it is
// larger than the path's packets, as far as the system knows them. The system can't be told for one datagram, so the socket is set and set back:
// nobody else may send by it meanwhile.
func sendWhole(fd int, name *sockaddr, p []byte) bool {
	level, option, whole := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO
	if name.raw.Family == unix.AF_INET6 {
		level, option, whole = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO
	}
	before, err := unix.GetsockoptInt(fd, level, option)
	if err != nil || unix.SetsockoptInt(fd, level, option, whole) != nil {
		return false
	}
	sent := sendTo(fd, name, p)
	_ = unix.SetsockoptInt(fd, level, option, before) // it was taken a moment ago
	return sent
}

// header is the system's struct mmsghdr.
type header struct {
	unix.Msghdr
	n uint32
}

const (
	batch = 64 // datagrams in one system call
	room  = 64 // bytes kept free before what a peer sent: for the header of channel data or of a Data indication
)

// reader takes what has come at a socket, many datagrams at once. It belongs to one thread.
type reader struct {
	headers [batch]header
	vectors [batch]unix.Iovec
	names   [batch]sockaddr
	buffers [batch][room + inboundSize]byte
}

func newReader() *reader {
	r := &reader{}
	for i := range batch {
		h := &r.headers[i]
		r.vectors[i].Base = &r.buffers[i][room]
		r.vectors[i].SetLen(inboundSize)
		h.Iov = &r.vectors[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&r.names[i].raw))
	}
	return r
}

// read returns how many datagrams have come.
func (r *reader) read(fd int) int {
	for i := range batch {
		r.headers[i].Namelen = unix.SizeofSockaddrInet6
	}
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.headers[0])), batch,
		unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0 // none has come, or an error of an earlier one is told, which is nobody's business
	}
	return int(n)
}

// name is where a datagram that read returned came from.
func (r *reader) name(i int) *sockaddr {
	r.names[i].size = r.headers[i].Namelen
	return &r.names[i]
}

// datagram is one of those that read returned. ok is false for one that was longer than the buffer.
func (r *reader) datagram(i int) (data []byte, ok bool) {
	return r.buffers[i][room : room+int(r.headers[i].n)], r.headers[i].Flags&unix.MSG_TRUNC == 0
}

// segments is how many datagrams of one size to one address are handed to the system as one (UDP_SEGMENT).
const (
	segments   = 32
	segmentMax = 1400 // bytes; longer ones might not fit the path
)

// writer hands datagrams of one socket to the system, many at once. What it was given must stay as it is until flush. It belongs to one thread.
type writer struct {
	fd      int
	count   int // headers
	vector  int // vectors
	headers [batch]header
	vectors [2 * batch]unix.Iovec
	control [batch]segmentControl
	last    *sockaddr // of the last header
	size    int       // of its datagrams; 0 when none may be added
	whole   bool      // segmentation does not work here
	sent    uint64
	lost    uint64
}

// segmentControl is the control message UDP_SEGMENT.
type segmentControl struct {
	unix.Cmsghdr
	size uint16
	_    [6]byte
}

func newWriter() *writer {
	w := &writer{}
	for i := range batch {
		w.control[i].Level, w.control[i].Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
		w.control[i].SetLen(unix.CmsgLen(2))
	}
	return w
}

// add puts a datagram into the queue; it flushes one that is full or another socket's.
func (w *writer) add(fd int, name *sockaddr, p []byte) {
	if len(p) == 0 {
		if !sendTo(fd, name, p) {
			w.lost++
		} else {
			w.sent++
		}
		return
	}
	if w.fd != fd || w.vector == len(w.vectors) {
		w.flush()
		w.fd = fd
	}
	v := &w.vectors[w.vector]
	v.Base = &p[0]
	v.SetLen(len(p))
	if w.last == name && w.size > 0 && len(p) <= w.size && w.headers[w.count-1].Iovlen < segments {
		h := &w.headers[w.count-1]
		h.SetIovlen(int(h.Iovlen) + 1)
		h.Control = (*byte)(unsafe.Pointer(&w.control[w.count-1]))
		h.SetControllen(unix.CmsgSpace(2))
		w.control[w.count-1].size = uint16(w.size)
		if len(p) < w.size {
			w.size = 0 // a shorter one can only be the last
		}
		w.vector++
		return
	}
	if w.count == batch {
		w.flush()
		w.fd = fd
		v = &w.vectors[0]
		v.Base = &p[0]
		v.SetLen(len(p))
	}
	h := &w.headers[w.count]
	h.Name, h.Namelen = (*byte)(unsafe.Pointer(&name.raw)), name.size
	h.Iov = v
	h.SetIovlen(1)
	h.Control = nil
	h.SetControllen(0)
	w.last, w.size = name, len(p)
	if w.whole || len(p) > segmentMax {
		w.size = 0
	}
	w.count++
	w.vector++
}

// flush sends what is queued. What the system does not take is lost, as it would be on the line.
func (w *writer) flush() {
	for from := 0; from < w.count; {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(w.fd), uintptr(unsafe.Pointer(&w.headers[from])), uintptr(w.count-from),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno == 0 {
			for _, h := range w.headers[from : from+int(n)] {
				w.sent += uint64(h.Iovlen)
			}
			from += int(n)
			continue
		}
		h := &w.headers[from]
		if h.Iovlen > 1 && errno != unix.EAGAIN {
			// Segmentation fails where a datagram is larger than the path's packets, or on a network card that can't do it.
			w.single(h)
			w.whole = w.whole || errno == unix.EIO
		} else {
			w.lost += uint64(h.Iovlen)
		}
		from++
	}
	w.count, w.vector, w.last, w.size = 0, 0, nil, 0
}

// single sends the datagrams of one header one by one.
func (w *writer) single(h *header) {
	for _, v := range unsafe.Slice(h.Iov, int(h.Iovlen)) {
		one := unix.Msghdr{Name: h.Name, Namelen: h.Namelen, Iov: &v}
		one.SetIovlen(1)
		_, _, errno := syscall.RawSyscall6(unix.SYS_SENDMSG, uintptr(w.fd), uintptr(unsafe.Pointer(&one)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0, 0)
		if errno != 0 {
			w.lost++
		} else {
			w.sent++
		}
	}
}

// take returns how many datagrams were sent and lost since the last time.
func (w *writer) take() (sent, lost uint64) {
	sent, lost = w.sent, w.lost
	w.sent, w.lost = 0, 0
	return sent, lost
}

// putChannelHead writes the header of channel data (RFC 8656, section 12.4).
func putChannelHead(p []byte, number uint16, size int) {
	binary.BigEndian.PutUint16(p, number)
	binary.BigEndian.PutUint16(p[2:], uint16(size))
}

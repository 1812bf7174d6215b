package turnserver

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sizes of the system's buffers, in bytes. Many clients share a listener's buffer. A relay's must hold the burst of one picture.
const (
	listenerBuffer = 4 << 20
	relayBuffer    = 1 << 19
)

// sockaddr is a transport address in the system's form, IPv4 or IPv6 according to the socket's family.
type sockaddr struct {
	raw  unix.RawSockaddrInet6 // the longer of the two forms
	size uint32
}

// set writes an address for a socket of a family. An IPv6 socket takes IPv4 addresses as IPv4-mapped ones.
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
	// forRelay is the relay socket of an allocation.
	forRelay socketUse = iota
	// forProbe is a socket that finds out whether a port is free.
	forProbe
	// forClients is a listener's socket. Many may have one port: the system deals packets out to them by their source.
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
	// These may fail. Only a process with CAP_NET_ADMIN can exceed the system's limit for buffers.
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

// boundTo returns the address that a socket is bound to.
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

// systemFamily is the system's number for one of TURN's families.
func systemFamily(family byte) uint16 {
	if family == familyIPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// sendTo sends one datagram. It returns false when the system does not take it now.
func sendTo(fd int, name *sockaddr, p []byte) bool {
	var at unsafe.Pointer
	if len(p) > 0 {
		at = unsafe.Pointer(&p[0])
	}
	_, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(at), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL,
		uintptr(unsafe.Pointer(&name.raw)), uintptr(name.size))
	return errno == 0
}

// sendWhole is sendTo for a datagram that nobody may fragment on its way (DF in IPv4, no fragment header in IPv6). It also returns false
// when the datagram is larger than the path's MTU, as far as the system knows it. The system has no such option for one datagram, so it
// is set on the socket and then set back: nobody else may send from the socket meanwhile.
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
	_ = unix.SetsockoptInt(fd, level, option, before) // the system accepted this value a moment ago
	return sent
}

package load

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Receive buffers in bytes: for a burst while the thread is busy elsewhere. What this side loses is no server's loss.
const (
	peerBuffer   = 8 << 20
	clientBuffer = 1 << 20
)

// socket opens a UDP socket on any port of an address. It does not block and stamps the time on what comes.
func socket(addr netip.Addr, buffer int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open a socket: %w", err)
	}
	// Root may have more than the system grants everybody.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
	}
	err = errors.Join(err,
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.Bind(fd, sockaddr(netip.AddrPortFrom(addr, 0))))
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("open a socket on %s: %w", addr, err)
	}
	return fd, nil
}

func connect(fd int, to netip.AddrPort) error { return unix.Connect(fd, sockaddr(to)) }

func sockaddr(ap netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: ap.Addr().Unmap().As4(), Port: int(ap.Port())}
}

func localAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	in4, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("a socket's address is a %T", sa)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port)), nil
}

// dropped is how many packets a socket had no room for since it was opened.
func dropped(fd int) (uint32, error) {
	var info [9]uint32 // SK_MEMINFO_VARS of linux/sock_diag.h; the last is SK_MEMINFO_DROPS
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("ask a socket what it dropped: %w", errno)
	}
	return info[8], nil
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	n uint32 // bytes received or sent
}

// batch is what recvmmsg and sendmmsg work on: a number of packets with their buffers, addresses and times.
type batch struct {
	headers  []mmsghdr
	iovecs   []unix.Iovec
	buffers  [][]byte
	names    []unix.RawSockaddrInet4
	controls [][]byte
}

// newBatch makes room for packets of up to size bytes.
func newBatch(packets, size int) *batch {
	b := &batch{
		headers: make([]mmsghdr, packets), iovecs: make([]unix.Iovec, packets), names: make([]unix.RawSockaddrInet4, packets),
		buffers: make([][]byte, packets), controls: make([][]byte, packets),
	}
	for i := range packets {
		b.buffers[i] = make([]byte, size)
		b.controls[i] = make([]byte, unix.CmsgSpace(int(unsafe.Sizeof(unix.Timespec{}))))
		b.iovecs[i].Base = &b.buffers[i][0]
		b.headers[i].Iov = &b.iovecs[i]
		b.headers[i].SetIovlen(1)
	}
	return b
}

// receive takes what has come, with its senders and times, and returns how many packets that is: 0 if there is nothing.
func (b *batch) receive(fd int) (int, error) {
	for i := range b.headers {
		h := &b.headers[i]
		b.iovecs[i].SetLen(len(b.buffers[i]))
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&b.names[i])), unix.SizeofSockaddrInet4
		h.Control = &b.controls[i][0]
		h.SetControllen(len(b.controls[i]))
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.headers[0])), uintptr(len(b.headers)), 0, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EAGAIN:
			return 0, nil
		case unix.EINTR:
		default:
			return 0, fmt.Errorf("receive: %w", errno)
		}
	}
}

// packet is the i-th of those received.
func (b *batch) packet(i int) []byte { return b.buffers[i][:b.headers[i].n] }

// came is when the i-th packet was received, in nanoseconds since 1970; otherwise if the kernel does not say.
func (b *batch) came(i int, otherwise int64) int64 {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b.controls[i][0]))
	if int(b.headers[i].Controllen) < len(b.controls[i]) || h.Level != unix.SOL_SOCKET || h.Type != unix.SCM_TIMESTAMPNS {
		return otherwise
	}
	return (*unix.Timespec)(unsafe.Pointer(&b.controls[i][unix.CmsgLen(0)])).Nano()
}

// prepare makes packet i one to send: to whom it came from if back, else to whom the socket is connected to.
func (b *batch) prepare(i, length int, back bool) {
	h := &b.headers[i]
	b.iovecs[i].SetLen(length)
	if !back {
		h.Name, h.Namelen = nil, 0
	}
	h.Control = nil
	h.SetControllen(0)
}

// send sends packets first to first+n-1, each of which was prepared.
func (b *batch) send(fd, first, n int) error {
	for n > 0 {
		sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.headers[first])), uintptr(n), 0, 0, 0)
		switch errno {
		case 0:
			first, n = first+int(sent), n-int(sent)
		case unix.EINTR:
		default:
			return fmt.Errorf("send: %w", errno)
		}
	}
	return nil
}

package load

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Receive buffers in bytes. They hold a burst while the thread does something else, so that the client itself loses no packets.
const (
	peerBuffer   = 8 << 20
	clientBuffer = 1 << 20
)

// socket opens a non-blocking UDP socket on any port of an address. The kernel adds a time stamp to each received packet.
func socket(addr netip.Addr, buffer int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open a socket: %w", err)
	}
	// As root, SO_RCVBUFFORCE sets a buffer above the system's limit.
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

// dropped returns how many packets the kernel has dropped because the socket's receive buffer was full.
func dropped(fd int) (uint32, error) {
	var info [9]uint32 // SK_MEMINFO_VARS of linux/sock_diag.h; the last is SK_MEMINFO_DROPS
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("read a socket's drop counter: %w", errno)
	}
	return info[8], nil
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	n uint32 // bytes received or sent
}

// batch holds the packets of one recvmmsg or sendmmsg call, with their buffers, addresses and time stamps.
type batch struct {
	headers  []mmsghdr
	iovecs   []unix.Iovec
	buffers  [][]byte
	names    []unix.RawSockaddrInet4
	controls [][]byte
}

// newBatch makes a batch for a number of packets of up to size bytes each.
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

// receive reads the packets that have come, with their senders and time stamps. It returns their number, 0 if there are none.
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

// packet returns the i-th received packet.
func (b *batch) packet(i int) []byte { return b.buffers[i][:b.headers[i].n] }

// arrived returns when packet i arrived, in nanoseconds since 1970. If the kernel gave no time stamp, it returns fallback.
func (b *batch) arrived(i int, fallback int64) int64 {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b.controls[i][0]))
	if int(b.headers[i].Controllen) < len(b.controls[i]) || h.Level != unix.SOL_SOCKET || h.Type != unix.SCM_TIMESTAMPNS {
		return fallback
	}
	return (*unix.Timespec)(unsafe.Pointer(&b.controls[i][unix.CmsgLen(0)])).Nano()
}

// prepare prepares packet i for sending. If back is true, it goes to the address that it came from, else to the socket's connected address.
func (b *batch) prepare(i, length int, back bool) {
	h := &b.headers[i]
	b.iovecs[i].SetLen(length)
	if !back {
		h.Name, h.Namelen = nil, 0
	}
	h.Control = nil
	h.SetControllen(0)
}

// send sends n prepared packets, from packet first on.
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

package turnserver

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// header is the system's struct mmsghdr.
type header struct {
	unix.Msghdr
	n uint32
}

const (
	batch = 64 // datagrams in one system call
	room  = 64 // bytes before each datagram, for the header of channel data or of a Data indication
)

// reader reads many datagrams from a socket in one system call. It belongs to one thread.
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

// read reads what has come, and returns the number of datagrams.
func (r *reader) read(fd int) int {
	for i := range batch {
		r.headers[i].Namelen = unix.SizeofSockaddrInet6
	}
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.headers[0])), batch,
		unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0 // nothing has come, or the system reports an error about an earlier packet, which does not matter
	}
	return int(n)
}

// name is the source of a datagram that read has read.
func (r *reader) name(i int) *sockaddr {
	r.names[i].size = r.headers[i].Namelen
	return &r.names[i]
}

// datagram returns a datagram that read has read. ok is false if it was longer than the buffer.
func (r *reader) datagram(i int) (data []byte, ok bool) {
	return r.buffers[i][room : room+int(r.headers[i].n)], r.headers[i].Flags&unix.MSG_TRUNC == 0
}

const (
	segments   = 32   // datagrams of one size to one address that the system takes as one (UDP_SEGMENT)
	segmentMax = 1400 // bytes; longer datagrams might not fit the path
)

// writer sends many datagrams of one socket in one system call. The bytes and the addresses that it is given must not change until flush. It
// belongs to one thread.
type writer struct {
	fd      int
	count   int // headers
	vector  int // vectors
	headers [batch]header
	vectors [2 * batch]unix.Iovec
	control [batch]segmentControl
	last    *sockaddr // the address of the last header
	size    int       // of that header's datagrams; 0 when no more may be added to it
	whole   bool      // segmentation does not work on this machine
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

// add queues a datagram. It flushes first if the queue is full or belongs to another socket.
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
			w.size = 0 // only the last datagram may be shorter
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

// flush sends what is queued. What the system does not take is lost, as packets can be lost on the way.
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
			// Segmentation fails when a datagram is larger than the path's MTU, or when the network card can't do it (EIO).
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

// take returns how many datagrams were sent and lost since it was called last.
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

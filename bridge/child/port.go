package child

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// FreePort takes ports below the range that Linux uses for outgoing connections (32768 to 60999). They are cut into blocks.
const (
	firstPort = 20000
	blocks    = 100
	blockSize = 100
)

// ports are the ports that this process takes, one after the other, so that a port is not taken again soon.
var ports struct {
	sync.Mutex
	first, next int
	reserved    net.Listener // its name says to other processes that the block is taken, until this process ends
}

// FreePort returns a port of 127.0.0.1 that is free for TCP and UDP at this moment. Use it for programs that can't choose a port themselves,
// and for addresses that must stay the same. A hundred calls return a hundred ports. Until the process ends, no other process gets a port of the same hundred from FreePort: else two
// that start at the same time could take the same one, before the program that it is for listens there.
func FreePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	for tries := 0; ports.reserved == nil && tries < blocks; tries++ {
		first := firstPort + blockSize*rand.N(blocks)
		// A name that begins with @ is not in the file system, and the kernel frees it when the process ends (unix(7), abstract sockets).
		if l, err := net.Listen("unix", fmt.Sprintf("@ewindow-ports-%d", first)); err == nil {
			ports.first, ports.next, ports.reserved = first, rand.N(blockSize), l
		}
	}
	if ports.reserved == nil {
		return 0, errors.New("find a free port: other processes have reserved all")
	}
	for range blockSize {
		port := ports.first + ports.next
		ports.next = (ports.next + 1) % blockSize
		if isFree(port) {
			return port, nil
		}
	}
	return 0, errors.New("find a free port: none is free for both TCP and UDP")
}

func isFree(port int) bool {
	address := fmt.Sprintf("127.0.0.1:%d", port)
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	_ = udp.Close()
	return true
}

package child

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// FreePort takes ports below the range that Linux uses for outgoing connections (32768 to 60999).
const firstPort, lastPort = 20000, 29999

// FreePort returns a port of 127.0.0.1 that is free for TCP and UDP at this moment. Use it for programs that can't choose a port themselves,
// and for addresses that must stay the same. Two calls may return the same port.
func FreePort() (int, error) {
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.N(lastPort-firstPort+1))
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		udp, err := net.ListenPacket("udp", address)
		port := tcp.Addr().(*net.TCPAddr).Port
		_ = tcp.Close()
		if err == nil {
			_ = udp.Close()
			return port, nil
		}
	}
	return 0, errors.New("find a free port: none is free for both TCP and UDP")
}

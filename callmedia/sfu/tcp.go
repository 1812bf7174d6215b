package sfu

import (
	"net"
	"time"

	"github.com/pion/transport/v5"
	"github.com/pion/transport/v5/stdnet"
)

// dialLimit is how long a TURN server may take to accept a connection over TCP.
const dialLimit = 3 * time.Second

// network is the machine's network with a limit for the time that a TCP connection takes. pion sets none, and closing a peer connection waits
// for the connections that are being made. That was measured as 132 s where a firewall drops the packets. pion's SetICEProxyDialer takes a dialer
// with a limit, but then makes no TLS for turns: addresses.
type network struct{ transport.Net }

func newNetwork() (transport.Net, error) {
	std, err := stdnet.NewNet()
	return network{std}, err
}

// DialTCP implements transport.Net.
func (n network) DialTCP(name string, laddr, raddr *net.TCPAddr) (transport.TCPConn, error) {
	dialer := net.Dialer{Timeout: dialLimit}
	if laddr != nil {
		dialer.LocalAddr = laddr
	}
	conn, err := dialer.Dial(name, raddr.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

package turncheck

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Target is one transport address of a TURN server.
type Target struct {
	// Host is a DNS name or an IP address, without brackets.
	Host string
	Port int
	// Transport is "udp", "tcp" or "tls" (over TCP).
	Transport string
}

// String returns the URI that clients are told (RFC 7065).
func (t Target) String() string {
	scheme, transport := "turn", t.Transport
	if t.Transport == "tls" {
		scheme, transport = "turns", "tcp"
	}
	return fmt.Sprintf("%s:%s?transport=%s", scheme, net.JoinHostPort(t.Host, strconv.Itoa(t.Port)), transport)
}

// The ports of TURN, and the port that the strictest firewalls let through.
const (
	plainPort = 3478
	tlsPort   = 5349
	httpsPort = 443
)

// Parse reads a URI such as turn:turn.example.org:3478?transport=udp or turns:turn.example.org (RFC 7065), or a host with or without a
// port. A host stands for all usual transports and ports.
func Parse(text string) ([]Target, error) {
	scheme, rest, found := strings.Cut(text, ":")
	switch {
	case found && (scheme == "turn" || scheme == "turns"):
	case found && (scheme == "stun" || scheme == "stuns" || strings.HasPrefix(rest, "//")):
		return nil, fmt.Errorf("%q is no TURN address: give one such as turn:turn.example.org:3478?transport=udp", text)
	default:
		host, port, err := splitHost(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%q is no host: %w", text, err)
		case port != 0:
			return []Target{{host, port, "udp"}, {host, port, "tcp"}, {host, port, "tls"}}, nil
		}
		return []Target{{host, plainPort, "udp"}, {host, plainPort, "tcp"}, {host, tlsPort, "tls"}, {host, httpsPort, "tls"}}, nil
	}
	rest, query, _ := strings.Cut(rest, "?")
	host, port, err := splitHost(rest)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	transport, known := strings.CutPrefix(query, "transport=")
	t := Target{host, port, transport}
	switch {
	case query == "" && scheme == "turn":
		t.Transport = "udp"
	case scheme == "turns" && (query == "" || transport == "tcp"):
		t.Transport = "tls"
	case scheme == "turns" && transport == "udp":
		return nil, fmt.Errorf("%q is TURN over DTLS, which is not looked at: give turns:%s?transport=tcp", text, rest)
	case !known || transport != "udp" && transport != "tcp":
		return nil, fmt.Errorf("%q: after the host and port comes ?transport=udp or ?transport=tcp, or nothing", text)
	}
	if t.Port == 0 {
		t.Port = plainPort
		if t.Transport == "tls" {
			t.Port = tlsPort
		}
	}
	return []Target{t}, nil
}

// splitHost splits a host from its port, if there is one.
func splitHost(text string) (host string, port int, err error) {
	host = text
	if _, err := netip.ParseAddr(text); err != nil { // an IPv6 address without brackets has no port
		if h, p, err := net.SplitHostPort(text); err == nil {
			host = h
			if port, err = strconv.Atoi(p); err != nil || port < 1 || port > 65535 {
				return "", 0, fmt.Errorf("%q is no port", p)
			}
		}
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err == nil {
		return host, port, nil
	}
	if host == "" || len(host) > 253 || strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" {
		return "", 0, fmt.Errorf("%q is neither a name nor an address", host)
	}
	return host, port, nil
}

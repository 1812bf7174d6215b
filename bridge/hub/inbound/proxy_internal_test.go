package inbound

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
)

// The format of the header. It is written here once more, so that the library is compared with the document and not with itself.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	maxProxyBody   = 4096 // bytes of addresses and extensions

	proxyLocal = 0x20
	proxyProxy = 0x21
	proxyTCP4  = 0x11
	proxyTCP6  = 0x21
	sizeTCP4   = 12
)

// header builds a header.
func header(command, family byte, body []byte) []byte {
	p := append([]byte(proxySignature), command, family, 0, 0)
	binary.BigEndian.PutUint16(p[14:], uint16(len(body)))
	return append(p, body...)
}

// tcp builds a header with a client's address. Nobody reads the server's address.
func tcp(source netip.AddrPort, more ...byte) []byte {
	family, ports := byte(proxyTCP4), make([]byte, 4)
	if source.Addr().Is6() {
		family = proxyTCP6
	}
	binary.BigEndian.PutUint16(ports, source.Port())
	body := append(source.Addr().AsSlice(), make([]byte, source.Addr().BitLen()/8)...)
	return header(proxyProxy, family, append(append(body, ports...), more...))
}

func TestProxyHeader(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("203.0.113.7:40000"), netip.MustParseAddrPort("[2001:db8::7]:40001")
	none := netip.AddrPort{}
	good := tcp(v4)
	for name, test := range map[string]struct {
		raw  []byte
		want netip.AddrPort
		ok   bool
	}{
		"IPv4":                 {good, v4, true},
		"IPv6":                 {tcp(v6), v6, true},
		"IPv4 within IPv6":     {tcp(netip.MustParseAddrPort("[::ffff:203.0.113.7]:40000")), v4, true},
		"with extensions":      {tcp(v4, 0x04, 0, 2, 1, 2), v4, true},
		"the proxy's own":      {header(proxyLocal, 0, nil), none, true},
		"own, with addresses":  {header(proxyLocal, proxyTCP4, good[16:]), none, true},
		"of a datagram":        {header(proxyProxy, 0x12, good[16:]), none, true},
		"unspecified":          {header(proxyProxy, 0, nil), none, true},
		"unspecified, longer":  {header(proxyProxy, 0, make([]byte, 12)), none, true},
		"of a Unix socket":     {header(proxyProxy, 0x31, make([]byte, 216)), none, true},
		"as much as there may": {tcp(v4, make([]byte, maxProxyBody-sizeTCP4)...), v4, true},
		"more":                 {tcp(v4, make([]byte, maxProxyBody-sizeTCP4+1)...), none, false},
		"too short for IPv4":   {header(proxyProxy, proxyTCP4, good[16:27]), none, false},
		"too short for IPv6":   {header(proxyProxy, proxyTCP6, good[16:28]), none, false},
		"version 1":            {[]byte("PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n"), none, false},
		"version 3":            {header(0x31, proxyTCP4, good[16:]), none, false},
		"unknown command":      {header(0x22, proxyTCP4, good[16:]), none, false},
		"TLS":                  {[]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello hello"), none, false},
		"cut off":              {good[:20], none, false},
		"nothing":              {nil, none, false},
		"a check's few bytes":  {[]byte("hello\r\n"), none, false},
	} {
		var raw io.Reader = io.MultiReader(bytes.NewReader(test.raw), strings.NewReader("rest"))
		quiet := name == "nothing" || name == "a check's few bytes"
		if name == "cut off" || quiet {
			raw = bytes.NewReader(test.raw)
		}
		stream := bufio.NewReaderSize(raw, proxyBuffer)
		got, err := readProxyHeader(stream)
		if got != test.want || (err == nil) != test.ok {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if warned := errors.Is(err, errNoProxyHeader); warned == (test.ok || quiet) {
			t.Errorf("%s: would be warned of: %t", name, warned) // a load balancer's check is no mistake
		}
		if rest, _ := io.ReadAll(stream); test.ok && string(rest) != "rest" {
			t.Errorf("%s: %q is left of what follows", name, rest)
		}
	}
}

// FuzzProxyHeader checks that an address that was read can be written and read again, and that an error comes without an address.
func FuzzProxyHeader(f *testing.F) {
	f.Add(tcp(netip.MustParseAddrPort("203.0.113.7:40000")))
	f.Add(tcp(netip.MustParseAddrPort("[2001:db8::7]:40001"), 1, 2, 3))
	f.Add(header(proxyLocal, 0, nil))
	f.Add([]byte(proxySignature))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		source, err := readProxyHeader(bufio.NewReader(bytes.NewReader(p)))
		if err != nil && source.IsValid() {
			t.Fatalf("%v, and %v", source, err)
		}
		if !source.IsValid() {
			return
		}
		if again, err := readProxyHeader(bufio.NewReader(bytes.NewReader(tcp(source)))); err != nil || again != source {
			t.Fatalf("%v was read, then %v, %v", source, again, err)
		}
	})
}

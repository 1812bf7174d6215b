package paths

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// HubName is the hub's name in [Names].
	HubName = "hub.example"
	// resolver is where each namespace with names has its stub resolver.
	resolver = "127.0.0.53"
	// netnsEtc is where ip looks for files that take the place of those in /etc in a namespace.
	netnsEtc = "/etc/netns"
)

// Names is a DNS: what it says can be changed while it is asked.
type Names struct {
	mu        sync.Mutex // guards what follows
	addresses map[string][]netip.Addr
}

func newNames() *Names {
	d := &Names{addresses: make(map[string][]netip.Addr)}
	d.Set(HubName, HubIP)
	d.Set("ipv4only.arpa", "192.0.0.170", "192.0.0.171") // RFC 7050
	return d
}

// Set replaces the addresses of a name.
func (d *Names) Set(name string, addresses ...string) {
	list := make([]netip.Addr, len(addresses))
	for i, a := range addresses {
		list[i] = netip.MustParseAddr(a)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addresses[name] = list
}

// serve lets the programs in a namespace use the DNS until the test ends. While nat64 holds a prefix it is a DNS64 (RFC 6147) for them.
func (d *Names) serve(t testing.TB, n *Namespace, nat64 *atomic.Pointer[netip.Prefix]) {
	t.Helper()
	folder := filepath.Join(netnsEtc, n.Name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.WriteFile(filepath.Join(folder, "resolv.conf"), []byte("nameserver "+resolver+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	conn, err := n.ListenPacket(resolver + ":53")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { _ = conn.Close(); serving.Wait() })
	serving.Go(func() {
		buffer := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFromUDP(buffer)
			if err != nil {
				return
			}
			if answer := d.answer(buffer[:size], nat64.Load()); answer != nil {
				_, _ = conn.WriteToUDP(answer, from)
			}
		}
	})
}

// answer answers one question, nil if it is none.
func (d *Names) answer(query []byte, nat64 *netip.Prefix) []byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(query)
	if err != nil {
		return nil
	}
	question, err := parser.Question()
	if err != nil {
		return nil
	}
	d.mu.Lock()
	all, known := d.addresses[strings.TrimSuffix(strings.ToLower(question.Name.String()), ".")]
	d.mu.Unlock()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, RecursionDesired: header.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{question},
	}
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	if nat64 != nil && !slices.ContainsFunc(all, netip.Addr.Is6) {
		for _, a := range all {
			all = append(all, translated(*nat64, a))
		}
	}
	for _, a := range all {
		resource := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: question.Name, Class: question.Class}}
		switch {
		case a.Is4() && question.Type == dnsmessage.TypeA:
			resource.Body = &dnsmessage.AResource{A: a.As4()}
		case a.Is6() && question.Type == dnsmessage.TypeAAAA:
			resource.Body = &dnsmessage.AAAAResource{AAAA: a.As16()}
		default:
			continue
		}
		m.Answers = append(m.Answers, resource)
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	return answer
}

// translated is the address in NAT64 of an IPv4 address (RFC 6052), for a prefix of 96 bits.
func translated(nat64 netip.Prefix, a netip.Addr) netip.Addr {
	all, four := nat64.Addr().As16(), a.As4()
	copy(all[12:], four[:])
	return netip.AddrFrom16(all)
}

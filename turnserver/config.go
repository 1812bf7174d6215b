package turnserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/rs/zerolog"
)

// minSecret is the length of the shortest secret, in bytes.
const minSecret = 16

// Config configures a Server.
type Config struct {
	// Listen holds one address or more.
	Listen []Listen
	// Certificate returns the certificate of TLS listeners. It is needed if there is such a listener, and is called at each
	// handshake, so that it can return a renewed certificate.
	Certificate func() (*tls.Certificate, error)
	// Relays are the addresses of relay sockets, one or more. Allocations take those of their family in turn.
	Relays []Relay
	// MinPort and MaxPort are the first and the last relay port. 0 and 0 let the system choose. If there is a range, its ports on this server's own
	// addresses may be peers. So two clients that both can use only this relay can reach each other.
	MinPort, MaxPort uint16
	// Realm is the protocol's name for this server, 1 to 128 bytes.
	Realm string
	// Secret is shared with the servers that make credentials. It has 16 bytes or more. OldSecret, if it is set, is accepted as well. It is for the
	// time until all these servers have the new secret.
	Secret, OldSecret string
	// Allowed says whether a user may be served now; nil: everybody with credentials. It is called for each request that is signed well, and each second
	// for each allocation, which ends when the answer is no. It is called from several goroutines, and must not block.
	Allowed func(user string) bool
	// AllowedPeers is what may be relayed to; empty: nothing.
	AllowedPeers []Peer
	// MaxAllocations and MaxAllocationsPerUser limit allocations together with the ports that are reserved for them. Both must be
	// above 0. A user is the part of the user name after the time, so fresh credentials do not bring a fresh quota.
	MaxAllocations, MaxAllocationsPerUser int
	// MaxBitrate and MaxBitratePerUser limit what is relayed, both directions together, in bit/s; 0 means no limit. What exceeds
	// them is dropped.
	MaxBitrate, MaxBitratePerUser int
	// Log gets the start and end of each allocation, with the addresses.
	Log zerolog.Logger
}

// Relay is an address of relay sockets.
type Relay struct {
	// Public is the address that clients and peers are told.
	Public netip.Addr
	// Local is the address of this machine that sockets are bound to, if it is not Public, as behind a one-to-one NAT. The zero value binds them to
	// all addresses of the family.
	Local netip.Addr
}

// ParseRelay reads a relay address as configuration files write it: 203.0.113.7, or 203.0.113.7/10.0.0.5 with the local address
// that a NAT translates it to.
func ParseRelay(text string) (r Relay, err error) {
	public, local, mapped := strings.Cut(text, "/")
	if r.Public, err = netip.ParseAddr(public); err == nil && mapped {
		r.Local, err = netip.ParseAddr(local)
	}
	if err != nil {
		return Relay{}, fmt.Errorf("%q is not an address such as 203.0.113.7, or 203.0.113.7/10.0.0.5 behind a one-to-one NAT", text)
	}
	if err := r.check(); err != nil {
		return Relay{}, fmt.Errorf("%q: %w", text, err)
	}
	return r, nil
}

// check completes a relay address, or says what is wrong with it.
func (r *Relay) check() error {
	r.Public, r.Local = r.Public.Unmap(), r.Local.Unmap()
	switch {
	case !r.Public.IsValid() || r.Public.IsUnspecified() || r.Public.IsMulticast() || r.Public.Zone() != "":
		return errors.New("a public address is needed")
	case !r.Local.IsValid() && r.Public.Is4():
		r.Local = netip.IPv4Unspecified()
	case !r.Local.IsValid():
		r.Local = netip.IPv6Unspecified()
	case r.Local.Is4() != r.Public.Is4():
		return fmt.Errorf("%s and %s are not of one family", r.Public, r.Local)
	}
	return nil
}

// check completes a configuration's relays, or says what is wrong with the configuration. It changes cfg.Relays in place.
func (cfg *Config) check() error {
	if len(cfg.Listen) == 0 {
		return errors.New("no address to listen on")
	}
	for _, l := range cfg.Listen {
		if _, err := ParseListen(l.String()); err != nil {
			return err
		}
		if l.Transport == TLS && cfg.Certificate == nil {
			return fmt.Errorf("%s needs a certificate", l)
		}
	}
	for _, p := range cfg.AllowedPeers {
		if err := p.check(); err != nil {
			return fmt.Errorf("allowed peer: %w", err)
		}
	}
	for i := range cfg.Relays {
		if err := cfg.Relays[i].check(); err != nil {
			return fmt.Errorf("relay: %w", err)
		}
	}
	switch {
	case len(cfg.Relays) == 0:
		return errors.New("no address to relay by")
	case cfg.MinPort > cfg.MaxPort || (cfg.MinPort == 0 && cfg.MaxPort != 0):
		return fmt.Errorf("relay ports %d to %d are no range", cfg.MinPort, cfg.MaxPort)
	case cfg.Realm == "" || len(cfg.Realm) > 128:
		return errors.New("the realm must have 1 to 128 bytes")
	case len(cfg.Secret) < minSecret, cfg.OldSecret != "" && len(cfg.OldSecret) < minSecret:
		return fmt.Errorf("the secret must have %d bytes or more", minSecret)
	case cfg.MaxBitrate < 0 || cfg.MaxBitratePerUser < 0:
		return errors.New("the limits of the bitrate must not be below 0")
	case cfg.MaxAllocations <= 0 || cfg.MaxAllocationsPerUser <= 0:
		return errors.New("the limits of allocations must be above 0")
	}
	return nil
}

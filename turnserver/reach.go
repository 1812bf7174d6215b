package turnserver

import (
	"fmt"
	"net/netip"
	"slices"
)

// reach is where a server relays from and to. It never changes: a new one takes its place.
type reach struct {
	relays map[byte][]Relay // by family
	policy policy
}

func newReach(cfg *Config) *reach {
	r := &reach{relays: make(map[byte][]Relay), policy: slices.Clone(cfg.AllowedPeers)}
	for _, relay := range cfg.Relays {
		family := familyOf(relay.Public)
		r.relays[family] = append(r.relays[family], relay)
		if cfg.MinPort > 0 {
			// Two clients that both can use only this relay can reach each other by it.
			r.policy = append(r.policy, Peer{netip.PrefixFrom(relay.Public, relay.Public.BitLen()), cfg.MinPort, cfg.MaxPort})
		}
	}
	return r
}

// SetReach replaces Config.Relays and Config.AllowedPeers, as when the machine's addresses have changed. Allocations that were made before end
// within a second or two, since their addresses and peers may be others' by now. After an error nothing has changed.
func (s *Server) SetReach(relays []Relay, peers []Peer) error {
	cfg := s.cfg
	cfg.Relays, cfg.AllowedPeers = slices.Clone(relays), peers
	if err := cfg.check(); err != nil {
		return fmt.Errorf("turn server: %w", err)
	}
	s.reach.Store(newReach(&cfg))
	return nil
}

package hub

import (
	"net/netip"
	"slices"
)

// fullAccess lists the homeservers whose users may begin calls. Users of other homeservers may only join a call that exists.
func fullAccess(cfg *Config) []string {
	switch {
	case len(cfg.Focus.FullAccessHomeservers) > 0:
		return cfg.Focus.FullAccessHomeservers
	case cfg.Homeserver != nil:
		return []string{cfg.Homeserver.ServerName}
	}
	return nil
}

// needsAccount says whether the hub must know who belongs to the network: it gives access to a focus, or to a relay through its homeserver.
func needsAccount(cfg *Config) bool {
	return cfg.Account != nil && !cfg.Open && (cfg.Focus != nil || cfg.Homeserver != nil && cfg.Relay != nil)
}

// mayConnect says whether the hub may connect to an address on behalf of others: the address is allowed and not denied.
func mayConnect(cfg *Config, a netip.Addr) bool {
	a = a.Unmap()
	within := func(p netip.Prefix) bool { return p.Contains(a) }
	return slices.ContainsFunc(cfg.AllowNetworks, within) && !slices.ContainsFunc(cfg.DenyNetworks, within)
}

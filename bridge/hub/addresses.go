package hub

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

// addressEvery is how often the hub looks whether its addresses have changed, addressLimit how long a name may take then.
const addressEvery, addressLimit = 5 * time.Second, 4 * time.Second

// namedEvery is how often the hub looks whether a name still leads to the address that is configured.
const namedEvery = time.Minute

// findAddress finds the address that clients are told at first, unless it is configured.
func (h *hub) findAddress(ctx context.Context) error {
	h.told.Store(&h.cfg)
	if h.cfg.Relay == nil || h.cfg.Relay.PublicIP.IsValid() {
		return nil
	}
	found, err := publicIP(ctx, &h.cfg, netip.Addr{})
	if err != nil {
		return err
	}
	h.tell(found)
	return nil
}

// tell makes an address the one that clients are told from now on.
func (h *hub) tell(address netip.Addr) {
	cfg, relay := h.cfg, *h.cfg.Relay
	relay.PublicIP, cfg.Relay = address, &relay
	h.told.Store(&cfg)
}

// publicIP is the IPv4 address under which clients reach this machine: its own if that is public, else one that the name in Config.PublicURL leads to.
// If this name still leads to the address before, it is that one.
func publicIP(ctx context.Context, cfg *Config, before netip.Addr) (netip.Addr, error) {
	// No packet is sent: the system says which of its addresses it would send from.
	var own netip.Addr
	conn, err := net.Dial("udp4", "198.41.0.4:53")
	if err == nil {
		own = conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		_ = conn.Close()
	}
	if addrpolicy.Public(own) {
		return own, nil
	}
	switch named := namedIPs(ctx, cfg); {
	case slices.Contains(named, before):
		return before, nil
	case len(named) > 0:
		return named[0], nil
	case err != nil:
		return netip.Addr{}, fmt.Errorf("hub.turnserver.public_ip is empty, and the machine has no way to the internet (%w): set it", err)
	}
	return netip.Addr{}, fmt.Errorf("hub.turnserver.public_ip is empty, %s, the machine's own, is not public, and the name in hub.public_url leads to no address: set the one under which clients on the internet reach it", own)
}

// namedIPs are the IPv4 addresses that the name in Config.PublicURL leads to. A machine's own name may lead to loopback addresses on this machine.
func namedIPs(ctx context.Context, cfg *Config) []netip.Addr {
	host := publicHost(cfg)
	if host == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, addressLimit)
	defer cancel()
	list, _ := net.DefaultResolver.LookupNetIP(ctx, "ip4", host) // without an answer there are none
	for i := range list {
		list[i] = list[i].Unmap()
	}
	return slices.DeleteFunc(list, func(a netip.Addr) bool { return !a.IsGlobalUnicast() })
}

// followAddresses takes over other addresses when this machine gets them, or the NAT before it, until ctx ends.
func (h *hub) followAddresses(ctx context.Context) error {
	tick := time.NewTicker(addressEvery)
	defer tick.Stop()
	var named time.Time // when it was looked where the name leads
	led := false        // it led to the configured address then
	for {
		var now time.Time
		select {
		case <-ctx.Done():
			return nil
		case now = <-tick.C:
		}
		switch r := h.cfg.Relay; {
		case r == nil:
			h.move(false)
		case !r.PublicIP.IsValid():
			h.move(h.findAgain(ctx))
		default:
			h.move(false)
			if now.Sub(named) >= namedEvery {
				named = now
				led = h.leadsTo(ctx, r.PublicIP, led)
			}
		}
	}
}

// findAgain looks for the public address again, and says whether it is another one than before.
func (h *hub) findAgain(ctx context.Context) (moved bool) {
	before := h.told.Load().Relay.PublicIP
	now, err := publicIP(ctx, &h.cfg, before)
	if err != nil || now == before {
		return false
	}
	h.cfg.Log.Warn().Stringer("before", before).Stringer("now", now).Msg("The hub's public address has changed")
	h.tell(now)
	return true
}

// leadsTo says whether the name in Config.PublicURL leads to the configured address. If it did before, and does no more, the log says so.
func (h *hub) leadsTo(ctx context.Context, public netip.Addr, before bool) bool {
	named := namedIPs(ctx, &h.cfg)
	if len(named) == 0 {
		return before
	}
	leads := slices.Contains(named, public)
	if before && !leads {
		h.cfg.Log.Warn().Stringer("public_ip", public).Stringer("now", named[0]).
			Msg("The name in hub.public_url leads elsewhere now: change hub.turnserver.public_ip, or empty it, so that the hub follows")
	}
	return leads
}

// move gives the parts the addresses that there are now. moved says that the public one is another one than before.
func (h *hub) move(moved bool) {
	if l := h.livekit; l != nil {
		node, err := netip.ParseAddr(nodeIP(h.told.Load()))
		if err == nil && l.server.Move(node) {
			h.cfg.Log.Warn().Any("addresses", l.server.Addresses()).Msg("LiveKit is started again with this machine's new addresses")
			l.child.Restart()
			moved = true
		}
	}
	if !moved || h.relay == nil {
		return
	}
	if err := h.relay.SetReach(h.relays(), h.allowedPeers()); err != nil {
		h.cfg.Log.Error().Err(err).Msg("The relay can't use the new addresses")
	}
}

package hub

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"

	"multifactorymodel.org/ewindow/bridge/hub/inbound"
	"multifactorymodel.org/ewindow/bridge/lifecycle"
	"multifactorymodel.org/ewindow/turnserver"
)

// startRelay starts the TURN relay. The relay opens its own ports. startRelay opens the ports that are behind a proxy.
func (h *hub) startRelay(ctx context.Context) error {
	cfg, err := h.relayConfig()
	if err != nil {
		return err
	}
	var proxied []turnserver.Listen
	cfg.Listen, proxied = splitListen(h.cfg.Relay)
	server, err := turnserver.New(cfg)
	if err != nil {
		return err
	}
	if err := server.Start(ctx); err != nil {
		return fmt.Errorf("hub.turnserver: %w", err)
	}
	h.relay = server
	h.parts.OnClose("TURN server", h.closeRelay)
	for _, l := range proxied {
		listener, err := lifecycle.Listen("hub.turnserver.listen", l.Addr.String())
		if err != nil {
			return err
		}
		in := inbound.Config{Listener: listener, Purpose: inbound.TURNOnly, Proxies: h.cfg.Relay.Proxies, Log: cfg.Log}
		if l.Transport == turnserver.TLS {
			in.TLS = &tls.Config{
				MinVersion:     tls.VersionTLS12,
				GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cfg.Certificate() },
			}
		}
		port := inbound.New(in)
		h.parts.Go(l.String(), port.Run)
		h.serveTURN(port.TURN(), l.Transport)
		cfg.Log.Info().Str("transport", string(l.Transport)).Stringer("addr", listener.Addr()).Bool("proxy_protocol", true).Msg("TURN server listens")
	}
	return nil
}

// splitListen splits the relay's listeners. own are those that the relay opens itself. proxied are TCP and TLS listeners behind a proxy, whose
// connections begin with a header of the PROXY protocol.
func splitListen(r *RelayConfig) (own, proxied []turnserver.Listen) {
	for _, l := range r.Listen {
		if len(r.Proxies) > 0 && l.Transport != turnserver.UDP {
			proxied = append(proxied, l)
		} else {
			own = append(own, l)
		}
	}
	return own, proxied
}

// closeRelay closes the relay. If hub.turnserver.drain is set, the relay first serves its present clients, for that time at most.
func (h *hub) closeRelay() error {
	if limit := h.cfg.Relay.Drain; limit > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		h.relay.Drain(ctx)
	}
	return h.relay.Close()
}

// serveTURN lets the relay serve the connections of a listener that it has not opened itself.
func (h *hub) serveTURN(listener net.Listener, transport turnserver.Transport) {
	h.parts.Go("TURN on "+listener.Addr().String(), func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
		return h.relay.Serve(listener, transport)
	})
}

// allowedPeers are the peers of the relay, as they are now.
func (h *hub) allowedPeers() []turnserver.Peer {
	return slices.Concat(h.livekit.peers(), h.cfg.Relay.AllowedPeers)
}

// relays are the addresses of relayed media, as they are now.
func (h *hub) relays() []turnserver.Relay {
	return slices.Concat([]turnserver.Relay{{Public: h.told.Load().Relay.PublicIP}}, h.cfg.Relay.MoreRelays)
}

// relayConfig is the relay's configuration, but for its listeners.
func (h *hub) relayConfig() (turnserver.Config, error) {
	r := h.cfg.Relay
	cfg := turnserver.Config{
		Allowed: h.mayAllocate,
		Realm:   r.Realm, Secret: r.Secret, OldSecret: r.OldSecret, AllowedPeers: h.allowedPeers(), Relays: h.relays(),
		MinPort: r.MinPort, MaxPort: r.MaxPort,
		MaxAllocations: r.MaxAllocations, MaxAllocationsPerUser: r.MaxAllocationsPerUser,
		MaxBitrate: r.MaxBitrate, MaxBitratePerUser: r.MaxBitratePerUser,
		Log: h.cfg.Log.With().Str("part", "turnserver").Logger(),
	}
	if !slices.ContainsFunc(r.Listen, func(l turnserver.Listen) bool { return l.Transport == turnserver.TLS }) {
		return cfg, nil
	}
	var err error
	cfg.Certificate, err = h.certificates.relay()
	return cfg, err
}

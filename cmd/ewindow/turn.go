package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"multifactorymodel.org/ewindow/bridge/hub/inbound"
	"multifactorymodel.org/ewindow/cmd/ewindow/config"
	"multifactorymodel.org/ewindow/turnserver"
	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

func turnCommand() *cli.Command {
	return &cli.Command{
		Name:        "turn",
		Usage:       "run the TURN relay alone, or look whether one works",
		Flags:       []cli.Flag{configFlag()},
		Subcommands: []*cli.Command{turnCheckCommand()},
		Action: func(c *cli.Context) error {
			cfg, log, err := load(c, config.Turn)
			if err != nil {
				return err
			}
			return runTurn(c.Context, cfg, log)
		},
	}
}

// runTurn runs the TURN relay alone until ctx ends.
func runTurn(ctx context.Context, cfg *config.Config, log zerolog.Logger) error {
	parts := newClosers()
	defer parts.close(log)
	if err := findPublicIP(&cfg.Hub.TurnServer); err != nil {
		return err
	}
	certs := newCertificates(cfg, parts, log)
	relay, err := startTurnServer(ctx, &cfg.Hub, nil, certs, parts, log)
	if err != nil {
		return err
	}
	if err := startMetrics(cfg, relay, parts, log); err != nil {
		return err
	}
	if err := certs.run(); err != nil {
		return err
	}
	return parts.wait(ctx)
}

// closeTurn ends the relay, after those who use it where that is configured.
func closeTurn(t *config.TurnServerConfig, server *turnserver.Server) error {
	if t.Drain > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), t.Drain)
		defer cancel()
		server.Drain(ctx)
	}
	return server.Close()
}

// findPublicIP fills in the relay's address where it is left to the program: the machine's own, if that is a public one.
func findPublicIP(t *config.TurnServerConfig) error {
	if !t.Enabled || t.PublicIP != "" {
		return nil
	}
	// No packet is sent: the system says by which of its addresses it would go.
	conn, err := net.Dial("udp4", "198.41.0.4:53")
	if err != nil {
		return fmt.Errorf("hub.turnserver.public_ip is empty, and the machine has no way to the internet (%w): set it", err)
	}
	defer conn.Close()
	own := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	if !addrpolicy.Public(own) {
		return fmt.Errorf("hub.turnserver.public_ip is empty, and %s, the machine's own, is not public: set the one under which clients on the internet reach it", own)
	}
	t.PublicIP = own.String()
	return nil
}

// startTurnServer runs the TURN relay as configured until its turn to end comes. peers may be relayed to besides those of the configuration.
func startTurnServer(ctx context.Context, h *config.HubConfig, peers []turnserver.Peer, certs *certificates, parts *closers, log zerolog.Logger) (*turnserver.Server, error) {
	cfg, err := turnConfig(h, peers, certs, log)
	if err != nil {
		return nil, err
	}
	proxies, err := config.Prefixes(h.TurnServer.ProxyProtocolFrom)
	if err != nil {
		return nil, fmt.Errorf("hub.turnserver.proxy_protocol_from: %w", err)
	}
	var proxied []turnserver.Listen // listeners that a proxy is before, and so not the server's own
	if len(proxies) > 0 {
		var own []turnserver.Listen
		for _, l := range cfg.Listen {
			if l.Transport == turnserver.UDP {
				own = append(own, l)
			} else {
				proxied = append(proxied, l)
			}
		}
		cfg.Listen = own
	}
	server, err := turnserver.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := server.Start(ctx); err != nil {
		return nil, fmt.Errorf("hub.turnserver: %w", err)
	}
	parts.add("TURN server", func() error { return closeTurn(&h.TurnServer, server) })
	for _, l := range proxied {
		listener, err := listen("hub.turnserver.listen", l.Addr.String())
		if err != nil {
			return nil, err
		}
		in := inbound.Config{Listener: listener, Purpose: inbound.TURNOnly, Proxies: proxies, Log: cfg.Log}
		if l.Transport == turnserver.TLS {
			in.TLS = &tls.Config{
				MinVersion:     tls.VersionTLS12,
				GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cfg.Certificate() },
			}
		}
		port := inbound.New(in)
		parts.run(l.String(), port.Run)
		serveTURN(server, port.TURN(), l.Transport, parts)
		cfg.Log.Info().Str("transport", string(l.Transport)).Stringer("addr", listener.Addr()).Bool("proxy_protocol", true).Msg("TURN server listens")
	}
	return server, nil
}

// serveTURN lets the relay serve connections of a listener that is not its own, until its turn to end comes.
func serveTURN(relay *turnserver.Server, listener net.Listener, transport turnserver.Transport, parts *closers) {
	parts.run("TURN on "+listener.Addr().String(), func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
		return relay.Serve(listener, transport)
	})
}

// turnConfig is the relay's configuration.
func turnConfig(h *config.HubConfig, peers []turnserver.Peer, certs *certificates, log zerolog.Logger) (turnserver.Config, error) {
	t := &h.TurnServer
	cfg := turnserver.Config{
		Realm: t.Realm, Secret: t.Secret, OldSecret: t.OldSecret, AllowedPeers: peers,
		MaxAllocations: t.MaxAllocations, MaxAllocationsPerUser: t.MaxAllocationsPerUser,
		MaxBitrate: t.MaxBitrate, MaxBitratePerUser: t.MaxBitratePerUser,
		Log: log.With().Str("part", "turnserver").Logger(),
	}
	var err error
	for _, text := range t.Listen {
		l, err := turnserver.ParseListen(text)
		if err != nil {
			return cfg, fmt.Errorf("hub.turnserver.listen: %w", err)
		}
		cfg.Listen = append(cfg.Listen, l)
	}
	for _, text := range t.AllowedPeers {
		p, err := turnserver.ParsePeer(text)
		if err != nil {
			return cfg, fmt.Errorf("hub.turnserver.allowed_peers: %w", err)
		}
		cfg.AllowedPeers = append(cfg.AllowedPeers, p)
	}
	for _, text := range append([]string{t.PublicIP}, t.MorePublicIPs...) {
		r, err := turnserver.ParseRelay(text)
		if err != nil {
			return cfg, fmt.Errorf("hub.turnserver.public_ip: %w", err)
		}
		cfg.Relays = append(cfg.Relays, r)
	}
	if cfg.MinPort, cfg.MaxPort, err = turnserver.ParsePorts(t.RelayPorts); err != nil {
		return cfg, fmt.Errorf("hub.turnserver.relay_ports: %w", err)
	}
	if slices.ContainsFunc(cfg.Listen, func(l turnserver.Listen) bool { return l.Transport == turnserver.TLS }) {
		if cfg.Certificate, err = certs.turn(); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

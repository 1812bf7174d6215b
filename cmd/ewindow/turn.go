package main

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"multifactorymodel.org/ewindow/cmd/ewindow/config"
	"multifactorymodel.org/ewindow/turnserver"
)

func turnCommand() *cli.Command {
	return &cli.Command{
		Name:  "turn",
		Usage: "run the TURN relay alone",
		Flags: []cli.Flag{configFlag()},
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
	server, err := newTurnServer(&cfg.Hub, nil, certs, log)
	if err != nil {
		return err
	}
	if err := server.Start(ctx); err != nil {
		return err
	}
	parts.add("TURN server", func() error { return closeTurn(&cfg.Hub.TurnServer, server) })
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
	if !turnserver.IsPublic(own) {
		return fmt.Errorf("hub.turnserver.public_ip is empty, and %s, the machine's own, is not public: set the one under which clients on the internet reach it", own)
	}
	t.PublicIP = own.String()
	return nil
}

// newTurnServer makes the TURN relay as configured. peers may be relayed to besides those of the configuration.
func newTurnServer(h *config.HubConfig, peers []turnserver.Peer, certs *certificates, log zerolog.Logger) (*turnserver.Server, error) {
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
			return nil, fmt.Errorf("hub.turnserver.listen: %w", err)
		}
		cfg.Listen = append(cfg.Listen, l)
	}
	for _, text := range t.AllowedPeers {
		p, err := turnserver.ParsePeer(text)
		if err != nil {
			return nil, fmt.Errorf("hub.turnserver.allowed_peers: %w", err)
		}
		cfg.AllowedPeers = append(cfg.AllowedPeers, p)
	}
	for _, text := range append([]string{t.PublicIP}, t.MorePublicIPs...) {
		r, err := turnserver.ParseRelay(text)
		if err != nil {
			return nil, fmt.Errorf("hub.turnserver.public_ip: %w", err)
		}
		cfg.Relays = append(cfg.Relays, r)
	}
	if cfg.MinPort, cfg.MaxPort, err = turnserver.ParsePorts(t.RelayPorts); err != nil {
		return nil, fmt.Errorf("hub.turnserver.relay_ports: %w", err)
	}
	if slices.ContainsFunc(cfg.Listen, func(l turnserver.Listen) bool { return l.Transport == turnserver.TLS }) {
		if cfg.Certificate, err = certs.turn(); err != nil {
			return nil, err
		}
	}
	return turnserver.New(cfg)
}

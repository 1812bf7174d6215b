package main

import (
	"context"
	"fmt"
	"net/netip"
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
	certs := newCertificates(cfg, parts, log)
	server, err := newTurnServer(&cfg.Hub, nil, certs, log)
	if err != nil {
		return err
	}
	if err := server.Start(ctx); err != nil {
		return err
	}
	parts.add("TURN server", server.Close)
	if err := certs.run(); err != nil {
		return err
	}
	return parts.wait(ctx)
}

// newTurnServer makes the TURN relay as configured. peers may be relayed to besides those of the configuration.
func newTurnServer(h *config.HubConfig, peers []turnserver.Peer, certs *certificates, log zerolog.Logger) (*turnserver.Server, error) {
	t := &h.TurnServer
	cfg := turnserver.Config{
		Realm: t.Realm, Secret: t.Secret, AllowedPeers: peers,
		MaxAllocations: t.MaxAllocations, MaxAllocationsPerUser: t.MaxAllocationsPerUser,
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
	public, err := netip.ParseAddr(t.PublicIP)
	if err != nil {
		return nil, fmt.Errorf("hub.turnserver.public_ip: %w", err)
	}
	cfg.Relays = []turnserver.Relay{{Public: public}}
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

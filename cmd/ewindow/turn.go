package main

import (
	"crypto/tls"
	"fmt"
	"net/netip"

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
			server, err := newTurnServer(&cfg.Hub, nil, log)
			if err != nil {
				return err
			}
			if err := server.Start(c.Context); err != nil {
				return err
			}
			<-c.Context.Done()
			return server.Close()
		},
	}
}

// newTurnServer makes the TURN relay as configured. peers may be relayed to besides those of the configuration.
func newTurnServer(h *config.HubConfig, peers []turnserver.Peer, log zerolog.Logger) (*turnserver.Server, error) {
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
	if cfg.PublicIP, err = netip.ParseAddr(t.PublicIP); err != nil {
		return nil, fmt.Errorf("hub.turnserver.public_ip: %w", err)
	}
	if cfg.MinPort, cfg.MaxPort, err = turnserver.ParsePorts(t.RelayPorts); err != nil {
		return nil, fmt.Errorf("hub.turnserver.relay_ports: %w", err)
	}
	if certificate, key := h.TurnCertificate(); certificate != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("the TURN server's certificate can't be read: %w", err)
		}
		cfg.Certificate = func() (*tls.Certificate, error) { return &pair, nil }
	}
	return turnserver.New(cfg)
}

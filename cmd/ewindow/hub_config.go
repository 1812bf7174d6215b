package main

import (
	"fmt"
	"net/netip"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bridge/hub"
	"multifactorymodel.org/ewindow/cmd/ewindow/config"
	"multifactorymodel.org/ewindow/turnserver"
)

// hubConfig makes the hub's settings from the configuration file. It parses addresses and prefixes. It ignores parts that are switched off. An
// error names the key.
func hubConfig(cfg *config.Config) (hub.Config, error) {
	f, r := &cfg.Hub, reader{}
	c := hub.Config{
		DataDir: cfg.DataDir, Listen: f.Listen, LocalListen: f.LocalListen, PublicURL: f.PublicURL, ServiceURL: f.Focus.LiveKitServiceURL,
		Certificate:   hub.CertificateFiles{Chain: f.TLSCertificate, Key: f.TLSKey},
		MetricsListen: cfg.Metrics.Listen,
	}
	if f.Focus.Enabled || f.Homeserver.Enabled {
		c.Open = f.Focus.Open
		c.Account = &hub.AccountConfig{HomeserverURL: f.Account.HomeserverURL, Username: f.Account.Username, Password: f.Account.Password}
		for _, admin := range cfg.Network.Admins {
			c.Account.Admins = append(c.Account.Admins, id.UserID(admin))
		}
	}
	if f.ACME.Enabled {
		c.ACME = &hub.ACMEConfig{Email: f.ACME.Email, DirectoryURL: f.ACME.DirectoryURL, HTTPListen: f.ACME.HTTPListen}
	}
	if f.TurnServer.Enabled {
		c.Relay = r.relay(&f.TurnServer)
	}
	if f.Focus.Enabled || f.Homeserver.Enabled {
		c.Proxies = r.prefixes("hub.proxy_protocol_from", f.ProxyProtocolFrom)
		c.AllowNetworks = r.prefixes("hub.homeserver.allow_networks", f.Homeserver.AllowNetworks)
		c.DenyNetworks = r.prefixes("hub.homeserver.deny_networks", f.Homeserver.DenyNetworks)
	}
	if s := &f.Focus; s.Enabled {
		c.Focus = &hub.FocusConfig{
			LiveKitURL: s.LiveKitURL, Program: s.LiveKitProgram, Port: s.Port, UDPPort: s.UDPPort, TCPPort: s.TCPPort, NodeIP: s.NodeIP,
			AllowLoopback: s.AllowLoopback, Key: s.Key, Secret: s.Secret, FullAccessHomeservers: s.FullAccessHomeservers, PublicURL: s.PublicURL,
		}
	}
	if s := &f.Homeserver; s.Enabled {
		c.Homeserver = &hub.HomeserverConfig{
			ServerName: s.ServerName, URL: s.URL, Program: s.DendriteProgram, Port: s.Port, RegistrationSecret: s.RegistrationSecret,
			BcryptCost: s.BcryptCost,
		}
	}
	return c, r.err
}

// reader reads texts of the configuration and keeps the first error.
type reader struct{ err error }

func (r *reader) check(key string, err error) {
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s: %w", key, err)
	}
}

func (r *reader) prefixes(key string, texts []string) []netip.Prefix {
	list, err := config.Prefixes(texts)
	r.check(key, err)
	return list
}

// relay makes the settings of the TURN relay.
func (r *reader) relay(t *config.TurnServerConfig) *hub.RelayConfig {
	c := &hub.RelayConfig{
		Proxies: r.prefixes("hub.turnserver.proxy_protocol_from", t.ProxyProtocolFrom),
		TLSHost: t.TLSHost, ShareHTTPSPort: t.ShareHTTPSPort, Drain: t.Drain,
		Certificate: hub.CertificateFiles{Chain: t.TLSCertificate, Key: t.TLSKey},
		Realm:       t.Realm, Secret: t.Secret, OldSecret: t.OldSecret,
		MaxAllocations: t.MaxAllocations, MaxAllocationsPerUser: t.MaxAllocationsPerUser,
		MaxBitrate: t.MaxBitrate, MaxBitratePerUser: t.MaxBitratePerUser,
	}
	c.Listen = parseAll(r, "hub.turnserver.listen", t.Listen, turnserver.ParseListen)
	c.MoreRelays = parseAll(r, "hub.turnserver.more_public_ips", t.MorePublicIPs, turnserver.ParseRelay)
	c.AllowedPeers = parseAll(r, "hub.turnserver.allowed_peers", t.AllowedPeers, turnserver.ParsePeer)
	var err error
	if t.PublicIP != "" {
		c.PublicIP, err = netip.ParseAddr(t.PublicIP)
		r.check("hub.turnserver.public_ip", err)
	}
	c.MinPort, c.MaxPort, err = turnserver.ParsePorts(t.RelayPorts)
	r.check("hub.turnserver.relay_ports", err)
	return c
}

func parseAll[T any](r *reader, key string, texts []string, parse func(string) (T, error)) (list []T) {
	for _, text := range texts {
		value, err := parse(text)
		r.check(key, err)
		list = append(list, value)
	}
	return list
}

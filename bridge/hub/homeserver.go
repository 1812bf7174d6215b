package hub

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"

	"multifactorymodel.org/ewindow/bot/homeserver"
	"multifactorymodel.org/ewindow/bridge/child"
	"multifactorymodel.org/ewindow/migrations"
)

// startHomeserver starts Dendrite, unless a homeserver already runs, and makes the reverse proxy before it.
func (h *hub) startHomeserver(ctx context.Context) error {
	s := h.cfg.Homeserver
	upstream := s.URL
	if upstream == "" {
		var err error
		if upstream, err = h.startDendrite(ctx); err != nil {
			return err
		}
	}
	address, err := url.Parse(upstream)
	if err != nil {
		return fmt.Errorf("hub.homeserver.url: %w", err)
	}
	db, err := migrations.OpenHub(ctx, filepath.Join(h.cfg.DataDir, "hub.db"), h.cfg.Log)
	if err != nil {
		return err
	}
	h.parts.OnClose("database", db.Close)
	announced := transports(&h.cfg)
	if len(announced) == 0 {
		h.cfg.Log.Warn().Msg("This homeserver announces no focus, so no calls can be made: switch hub.focus on, or set hub.focus.livekit_service_url")
	}
	cfg := homeserver.FrontConfig{
		Upstream: address, ServerName: s.ServerName, PublicURL: h.cfg.PublicURL, Transports: announced, DB: db,
		Log: h.cfg.Log.With().Str("part", "homeserver").Logger(),
	}
	if h.service != nil {
		cfg.SFUToken = h.service.DeviceToken
	}
	front, err := homeserver.NewFront(cfg)
	if err != nil {
		return err
	}
	h.parts.Go("delayed events", front.Run)
	h.mux.Handle("/", front)
	return nil
}

// startDendrite runs Dendrite as a child and returns its address.
func (h *hub) startDendrite(ctx context.Context) (address string, err error) {
	s := h.cfg.Homeserver
	program, err := h.find(ctx, child.Dendrite, s.Program)
	if err != nil {
		return "", err
	}
	port := s.Port
	if err := choosePorts(&port); err != nil {
		return "", err
	}
	cfg := homeserver.DendriteConfig{
		Dir: filepath.Join(h.cfg.DataDir, "dendrite"), ServerName: s.ServerName, ClientPort: port,
		RegistrationSecret: s.RegistrationSecret, BcryptCost: s.BcryptCost, Log: h.cfg.Log,
		AllowNetworks: prefixTexts(h.cfg.AllowNetworks), DenyNetworks: prefixTexts(h.cfg.DenyNetworks),
	}
	if h.cfg.Relay != nil {
		cfg.TurnURIs, cfg.TurnSecret = TURNURIs(&h.cfg), h.cfg.Relay.Secret
	}
	server, err := homeserver.NewDendrite(cfg)
	if err != nil {
		return "", err
	}
	return server.URL(), h.startChild(ctx, child.Dendrite, program, "dendrite.log", server)
}

// prefixTexts returns prefixes in CIDR notation. The result is never nil, because nil would mean the default of DendriteConfig.
func prefixTexts(list []netip.Prefix) []string {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = p.String()
	}
	return texts
}

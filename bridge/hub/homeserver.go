package hub

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"time"

	"maunium.net/go/mautrix/id"

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
	if s.URL == "" {
		if cfg.RemoteMedia, err = homeserver.OpenRemoteMedia(homeserver.RemoteMediaConfig{
			Dir: h.dendriteDir(), ServerName: s.ServerName, Total: remoteMediaTotal, PerUser: remoteMediaPerUser, Age: remoteMediaAge, Log: cfg.Log,
		}); err != nil {
			return err
		}
		h.parts.OnClose("media database", cfg.RemoteMedia.Close)
		h.parts.Go("old files", cfg.RemoteMedia.Run)
	}
	if h.cfg.Relay != nil {
		cfg.TURN = func(user id.UserID) (access homeserver.TURNAccess, ok bool) {
			if !h.belongs(user) {
				return access, false
			}
			return turnAccess(h.told.Load(), user), true
		}
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
	if s.URL == "" {
		// Our own requests go through the front, too: Dendrite must not notice when somebody hangs up.
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("serve the homeserver to the hub itself: %w", err)
		}
		h.parts.ServeHTTP(&http.Server{Handler: front, ReadHeaderTimeout: headerLimit}, listener)
		h.local = "http://" + listener.Addr().String()
	}
	return nil
}

// How many files of other homeservers Dendrite keeps.
const (
	remoteMediaTotal   = 2 << 30   // bytes
	remoteMediaPerUser = 200 << 20 // bytes a day
	remoteMediaAge     = 7 * 24 * time.Hour
)

// dendriteDir is Dendrite's folder.
func (h *hub) dendriteDir() string { return filepath.Join(h.cfg.DataDir, "dendrite") }

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
	if h.registration = s.RegistrationSecret; h.registration == "" {
		h.registration = rand.Text() // then nobody but the hub can make accounts
	}
	cfg := homeserver.DendriteConfig{
		Dir: h.dendriteDir(), ServerName: s.ServerName, ClientPort: port,
		RegistrationSecret: h.registration, BcryptCost: s.BcryptCost, Log: h.cfg.Log,
		AllowNetworks: prefixTexts(h.cfg.AllowNetworks), DenyNetworks: prefixTexts(h.cfg.DenyNetworks),
	}
	outbound, err := homeserver.ListenOutbound(func(a netip.Addr) bool { return mayConnect(&h.cfg, a) })
	if err != nil {
		return "", err
	}
	h.parts.ServeHTTP(&http.Server{Handler: outbound, ReadHeaderTimeout: headerLimit}, outbound.Listener())
	cfg.Outbound = outbound.URL()
	server, err := homeserver.NewDendrite(cfg)
	if err != nil {
		return "", err
	}
	h.dendrite = server.URL()
	ports := server.ConnectTCP()
	if len(ports) == 0 {
		h.cfg.Log.Info().Msg("hub.homeserver.allow_networks opens addresses of this machine, so nothing keeps the homeserver from all of its ports")
	}
	h.homeserver, err = h.startChild(ctx, child.Dendrite, program, "dendrite.log", server, ports)
	return h.dendrite, err
}

// prefixTexts returns prefixes in CIDR notation. The result is never nil, because nil would mean the default of DendriteConfig.
func prefixTexts(list []netip.Prefix) []string {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = p.String()
	}
	return texts
}

package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"multifactorymodel.org/ewindow/bot/homeserver"
	"multifactorymodel.org/ewindow/bridge/child"
	"multifactorymodel.org/ewindow/bridge/hub/certificate"
	"multifactorymodel.org/ewindow/bridge/hub/inbound"
	"multifactorymodel.org/ewindow/callmedia/focus"
	"multifactorymodel.org/ewindow/cmd/ewindow/config"
	"multifactorymodel.org/ewindow/migrations"
	"multifactorymodel.org/ewindow/turnserver"
)

// Where the hub's own parts hang below hub.public_url.
const (
	ticketPath  = "/livekit/jwt"
	livekitPath = "/livekit/sfu"
)

// stopLimit is how long requests that are being answered may take when the hub ends.
const stopLimit = 3 * time.Second

func hubCommand() *cli.Command {
	return &cli.Command{
		Name:        "hub",
		Usage:       "run the network's small server: TURN relay, MatrixRTC focus, homeserver, each if switched on",
		Flags:       []cli.Flag{configFlag()},
		Subcommands: []*cli.Command{hubAccountCommand(), hubSnippetCommand()},
		Action: func(c *cli.Context) error {
			cfg, log, err := load(c, config.Hub)
			if err != nil {
				return err
			}
			return runHub(c.Context, cfg, log)
		},
	}
}

func hubAccountCommand() *cli.Command {
	return &cli.Command{
		Name:      "account",
		Usage:     "make a Matrix account on the hub's homeserver, which must be running; a new password is printed",
		ArgsUsage: "NAME",
		Flags: []cli.Flag{
			configFlag(),
			&cli.BoolFlag{Name: "admin", Usage: "make it an administrator of the homeserver"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return &usageError{"one name is needed, such as: ewindow hub account window-dresden"}
			}
			cfg, err := config.Load(c.String("config"))
			if err != nil {
				return err
			}
			h := &cfg.Hub.Homeserver
			if h.URL != "" || !h.Enabled {
				return errors.New("this hub runs no homeserver of its own: make accounts where yours runs")
			}
			if h.Port == 0 {
				return errors.New("hub.homeserver.port is 0: give the homeserver a fixed port, so that accounts can be made there")
			}
			password := randomHex(12)
			user, err := homeserver.Register(c.Context, http.DefaultClient, fmt.Sprintf("http://127.0.0.1:%d", h.Port),
				h.RegistrationSecret, c.Args().First(), password, c.Bool("admin"))
			if err != nil {
				return fmt.Errorf("the account could not be made: %w", err)
			}
			_, err = fmt.Fprintf(c.App.Writer, "account:  %s\npassword: %s\n", user, password)
			return err
		},
	}
}

// runHub runs what is switched on until ctx ends.
func runHub(ctx context.Context, cfg *config.Config, log zerolog.Logger) error {
	parts := newClosers()
	defer parts.close(log)
	h := &cfg.Hub
	if err := findPublicIP(&h.TurnServer); err != nil {
		return err
	}
	certs := newCertificates(cfg, parts, log)
	livekit, err := startFocus(ctx, cfg, parts, log)
	if err != nil {
		return err
	}
	var relay *turnserver.Server
	if h.TurnServer.Enabled {
		if relay, err = startTurnServer(ctx, h, livekit.peers, certs, parts, log); err != nil {
			return err
		}
	}
	mux := http.NewServeMux()
	if livekit.service != nil {
		mux.Handle(ticketPath+"/", http.StripPrefix(ticketPath, livekit.service))
		mux.Handle(livekitPath+"/", http.StripPrefix(livekitPath, livekit.proxy))
	}
	if h.Homeserver.Enabled {
		front, err := startHomeserver(ctx, cfg, parts, log)
		if err != nil {
			return err
		}
		mux.Handle("/", front)
	}
	if h.Focus.Enabled || h.Homeserver.Enabled {
		if err := serveHub(h, mux, relay, certs, parts, log); err != nil {
			return err
		}
	}
	if err := certs.run(); err != nil {
		return err
	}
	if err := startMetrics(cfg, relay, parts, log); err != nil {
		return err
	}
	log.Info().Str("public_url", h.PublicURL).Bool("turnserver", h.TurnServer.Enabled).Bool("focus", h.Focus.Enabled).
		Bool("homeserver", h.Homeserver.Enabled).Msg("The hub is up")
	return parts.wait(ctx)
}

// runningFocus is the focus as far as it was started.
type runningFocus struct {
	service *focus.Service
	proxy   http.Handler
	peers   []turnserver.Peer // what TURN must relay to
}

// startFocus starts LiveKit, unless it runs elsewhere, and makes the authorisation service.
func startFocus(ctx context.Context, cfg *config.Config, parts *closers, log zerolog.Logger) (r runningFocus, err error) {
	h := &cfg.Hub
	f := &h.Focus
	if !f.Enabled {
		return r, nil
	}
	internal, key, secret := f.LiveKitURL, f.Key, f.Secret
	if internal == "" {
		if key == "" {
			key, secret = "ewindow-"+randomHex(6), randomHex(32)
		}
		server, err := startLiveKit(ctx, cfg, key, secret, parts, log)
		if err != nil {
			return r, err
		}
		internal = server.URL()
		for _, port := range []int{f.UDPPort, f.TCPPort} {
			peer, err := turnserver.ParsePeer(fmt.Sprintf("%s:%d", nodeIP(h), port))
			if err != nil {
				return r, fmt.Errorf("hub.focus.node_ip: %w", err)
			}
			r.peers = append(r.peers, peer)
		}
	}
	full := f.FullAccessHomeservers
	if len(full) == 0 {
		full = []string{h.Homeserver.ServerName}
	}
	public := f.PublicURL
	if public == "" {
		public = strings.Replace(strings.TrimSuffix(h.PublicURL, "/"), "http", "ws", 1) + livekitPath
	}
	allowed, err := networks(h.Homeserver.AllowNetworks, h.Homeserver.DenyNetworks)
	if err != nil {
		return r, err
	}
	r.service, err = focus.NewService(focus.ServiceConfig{
		LiveKitURL: httpURL(internal), PublicURL: public, Key: key, Secret: secret, FullAccess: full, Allowed: allowed,
		APIClosed: f.LiveKitURL == "", // it listens on this machine alone, and the proxy lets signalling through, no more
		Log:       log.With().Str("part", "focus").Logger(),
	})
	if err != nil {
		return r, err
	}
	r.proxy, err = focus.NewProxy(httpURL(internal))
	return r, err
}

func startLiveKit(ctx context.Context, cfg *config.Config, key, secret string, parts *closers, log zerolog.Logger) (*focus.LiveKit, error) {
	h := &cfg.Hub
	f := &h.Focus
	program, err := child.Find(ctx, child.LiveKit, f.LiveKitProgram, progressLog(log))
	if err != nil {
		return nil, err
	}
	for _, port := range []*int{&f.Port, &f.UDPPort, &f.TCPPort} {
		if *port == 0 {
			if *port, err = child.FreePort(); err != nil {
				return nil, err
			}
		}
	}
	server, err := focus.NewLiveKit(focus.LiveKitConfig{
		Dir: filepath.Join(cfg.DataDir, "livekit"), Key: key, Secret: secret, Port: f.Port, UDPPort: f.UDPPort, TCPPort: f.TCPPort,
		NodeIP: nodeIP(h), AllowLoopback: f.AllowLoopback, Turn: turnForLiveKit(h), Log: log,
	})
	if err != nil {
		return nil, err
	}
	return server, startChild(ctx, child.Config{
		Name: child.LiveKit.Name, Ready: server.Ready, Output: filepath.Join(cfg.DataDir, "livekit.log"), Log: log,
		Command: func() (*exec.Cmd, error) { return server.Command(program) },
	}, parts)
}

// startHomeserver starts Dendrite, unless a homeserver runs elsewhere, and makes the front.
func startHomeserver(ctx context.Context, cfg *config.Config, parts *closers, log zerolog.Logger) (http.Handler, error) {
	h := &cfg.Hub
	s := &h.Homeserver
	upstream := s.URL
	if upstream == "" {
		program, err := child.Find(ctx, child.Dendrite, s.DendriteProgram, progressLog(log))
		if err != nil {
			return nil, err
		}
		if s.Port == 0 {
			if s.Port, err = child.FreePort(); err != nil {
				return nil, err
			}
		}
		uris, secret := turnForHomeserver(h)
		server, err := homeserver.NewDendrite(homeserver.DendriteConfig{
			Dir: filepath.Join(cfg.DataDir, "dendrite"), ServerName: s.ServerName, ClientPort: s.Port,
			RegistrationSecret: s.RegistrationSecret, TurnURIs: uris, TurnSecret: secret, AllowNetworks: s.AllowNetworks,
			DenyNetworks: s.DenyNetworks, BcryptCost: s.BcryptCost, Log: log,
		})
		if err != nil {
			return nil, err
		}
		if err := startChild(ctx, child.Config{
			Name: child.Dendrite.Name, Ready: server.Ready, Output: filepath.Join(cfg.DataDir, "dendrite.log"), Log: log,
			Command: func() (*exec.Cmd, error) { return server.Command(program) },
		}, parts); err != nil {
			return nil, err
		}
		upstream = server.URL()
	}
	address, err := url.Parse(upstream)
	if err != nil {
		return nil, fmt.Errorf("hub.homeserver.url: %w", err)
	}
	db, err := migrations.OpenHub(ctx, filepath.Join(cfg.DataDir, "hub.db"), log)
	if err != nil {
		return nil, err
	}
	parts.add("database", db.Close)
	var transports []string
	if h.Focus.Enabled || h.Focus.LiveKitServiceURL != "" {
		transports = []string{serviceURL(h)}
	} else {
		log.Warn().Msg("This homeserver announces no focus, so no calls can be made: switch hub.focus on, or set hub.focus.livekit_service_url")
	}
	front, err := homeserver.NewFront(homeserver.FrontConfig{
		Upstream: address, ServerName: s.ServerName, PublicURL: h.PublicURL, Transports: transports, DB: db,
		Log: log.With().Str("part", "homeserver").Logger(),
	})
	if err != nil {
		return nil, err
	}
	parts.run("delayed events", front.Run)
	return front, nil
}

// serveHub opens the hub's HTTP side, and on its HTTPS port relay's, if they are to share it.
func serveHub(h *config.HubConfig, handler http.Handler, relay *turnserver.Server, certs *certificates, parts *closers, log zerolog.Logger) error {
	server := func() *http.Server {
		return &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: discardLog}
	}
	if h.Listen != "" {
		source, err := certs.https()
		if err != nil {
			return err
		}
		secure := server()
		secure.TLSConfig = &tls.Config{GetCertificate: source, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
		if h.ACME.Enabled {
			secure.TLSConfig.NextProtos = append(secure.TLSConfig.NextProtos, certificate.ALPN)
		}
		cfg := inbound.Config{Purpose: inbound.HTTPOnly, TLS: secure.TLSConfig, Log: log}
		if cfg.Proxies, err = config.Prefixes(h.ProxyProtocolFrom); err != nil {
			return fmt.Errorf("hub.proxy_protocol_from: %w", err)
		}
		share := relay != nil && h.SharedPort() != 0
		if share {
			cfg.Purpose = inbound.Shared
			if cfg.TLS, cfg.TURNName, err = sharedTLS(h, secure.TLSConfig, certs); err != nil {
				return err
			}
		}
		if cfg.Listener, err = listen("hub.listen", h.Listen); err != nil {
			return err
		}
		log.Info().Stringer("address", cfg.Listener.Addr()).Bool("encrypted", true).Bool("turn", share).Msg("The hub listens")
		port := inbound.New(cfg)
		parts.run("HTTPS port", port.Run)
		if share {
			serveTURN(relay, port.TURN(), turnserver.TLS, parts)
		}
		serve(secure, port.HTTP(), parts)
	}
	if h.LocalListen != "" {
		listener, err := listen("hub.local_listen", h.LocalListen)
		if err != nil {
			return err
		}
		log.Info().Stringer("address", listener.Addr()).Bool("encrypted", false).Msg("The hub listens")
		serve(server(), listener, parts)
	}
	return nil
}

// sharedTLS is the TLS of an HTTPS port that the relay shares, and the name whose clients are the relay's alone.
func sharedTLS(h *config.HubConfig, web *tls.Config, certs *certificates) (cfg *tls.Config, name string, err error) {
	if name = h.TurnTLSHost(); strings.EqualFold(name, h.PublicHost()) {
		return web, "", nil
	}
	if h.TurnServer.TLSCertificate == "" {
		return web, name, nil
	}
	own, err := certs.turn()
	if err != nil {
		return nil, "", err
	}
	cfg = web.Clone()
	cfg.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if strings.EqualFold(hello.ServerName, name) {
			return own()
		}
		return web.GetCertificate(hello)
	}
	return cfg, name, nil
}

func startChild(ctx context.Context, cfg child.Config, parts *closers) error {
	c, err := child.New(cfg)
	if err != nil {
		return err
	}
	if err := c.Start(ctx); err != nil {
		return err
	}
	parts.add(cfg.Name, c.Close)
	return nil
}

func nodeIP(h *config.HubConfig) string {
	if h.Focus.NodeIP != "" {
		return h.Focus.NodeIP
	}
	return h.TurnServer.PublicIP
}

// turnForLiveKit tells LiveKit of our relay, one entry a transport.
func turnForLiveKit(h *config.HubConfig) (list []focus.Turn) {
	for _, w := range turnWays(h) {
		list = append(list, focus.Turn{Host: w.host, Port: w.port, Protocol: string(w.transport), Secret: h.TurnServer.Secret})
	}
	return list
}

// turnForHomeserver is what a homeserver is told of our relay, nothing where there is none.
func turnForHomeserver(h *config.HubConfig) (uris []string, secret string) {
	for _, w := range turnWays(h) {
		scheme, transport := "turn", string(w.transport)
		if w.transport == turnserver.TLS {
			scheme, transport = "turns", "tcp"
		}
		uris = append(uris, fmt.Sprintf("%s:%s:%d?transport=%s", scheme, w.host, w.port, transport))
		secret = h.TurnServer.Secret
	}
	return uris, secret
}

// turnWay is how clients reach the relay.
type turnWay struct {
	transport turnserver.Transport
	host      string
	port      int
}

func turnWays(h *config.HubConfig) (ways []turnWay) {
	if !h.TurnServer.Enabled {
		return nil
	}
	for _, l := range turnListeners(h) {
		w := turnWay{l.Transport, h.TurnServer.PublicIP, int(l.Addr.Port())}
		if l.Transport == turnserver.TLS {
			w.host = h.TurnTLSHost()
		}
		ways = append(ways, w)
	}
	if port := h.SharedPort(); port != 0 {
		ways = append(ways, turnWay{turnserver.TLS, h.TurnTLSHost(), port})
	}
	return ways
}

func turnListeners(h *config.HubConfig) (list []turnserver.Listen) {
	for _, text := range h.TurnServer.Listen {
		if l, err := turnserver.ParseListen(text); err == nil {
			list = append(list, l)
		}
	}
	return list
}

// networks says which addresses a hub may connect to on behalf of others: those allowed and not denied.
func networks(allow, deny []string) (func(netip.Addr) bool, error) {
	allowed, err := config.Prefixes(allow)
	if err != nil {
		return nil, fmt.Errorf("hub.homeserver.allow_networks: %w", err)
	}
	denied, err := config.Prefixes(deny)
	if err != nil {
		return nil, fmt.Errorf("hub.homeserver.deny_networks: %w", err)
	}
	within := func(list []netip.Prefix, a netip.Addr) bool {
		for _, p := range list {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	return func(a netip.Addr) bool {
		a = a.Unmap()
		return within(allowed, a) && !within(denied, a)
	}, nil
}

// httpURL turns ws and wss into http and https, as LiveKit's server calls go.
func httpURL(text string) string {
	if rest, ok := strings.CutPrefix(text, "ws"); ok {
		return "http" + rest
	}
	return text
}

func progressLog(log zerolog.Logger) func(string) {
	return func(line string) { log.Info().Str("step", line).Msg("Preparing a program") }
}

// randomHex returns n random bytes as text.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

package hub

import (
	"crypto/tls"
	"net/http"
	"strings"
	"time"

	"multifactorymodel.org/ewindow/bridge/hub/certificate"
	"multifactorymodel.org/ewindow/bridge/hub/inbound"
	"multifactorymodel.org/ewindow/bridge/lifecycle"
	"multifactorymodel.org/ewindow/turnserver"
)

// openPorts opens the HTTPS port, which the relay may share, and the one of plain HTTP.
func (h *hub) openPorts() error {
	if h.cfg.Listen != "" {
		if err := h.openHTTPS(); err != nil {
			return err
		}
	}
	if h.cfg.LocalListen == "" {
		return nil
	}
	listener, err := lifecycle.Listen("hub.local_listen", h.cfg.LocalListen)
	if err != nil {
		return err
	}
	h.cfg.Log.Info().Stringer("address", listener.Addr()).Bool("encrypted", false).Msg("The hub listens")
	h.parts.ServeHTTP(h.newServer(), listener)
	return nil
}

// headerLimit is how long a client may take to send the headers of a request.
const headerLimit = 10 * time.Second

func (h *hub) newServer() *http.Server {
	return &http.Server{Handler: demandProgress(h.mux), ReadHeaderTimeout: headerLimit, IdleTimeout: 2 * time.Minute}
}

func (h *hub) openHTTPS() error {
	source, err := h.certificates.https()
	if err != nil {
		return err
	}
	server := h.newServer()
	server.TLSConfig = &tls.Config{GetCertificate: source, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if h.cfg.ACME != nil {
		server.TLSConfig.NextProtos = append(server.TLSConfig.NextProtos, certificate.ALPN)
	}
	cfg := inbound.Config{Purpose: inbound.HTTPOnly, TLS: server.TLSConfig, Proxies: h.cfg.Proxies, Log: h.cfg.Log}
	share := sharedPort(&h.cfg) != 0
	if share {
		cfg.Purpose = inbound.Shared
		if cfg.TLS, cfg.TURNName, err = h.sharedTLS(server.TLSConfig); err != nil {
			return err
		}
	}
	if cfg.Listener, err = lifecycle.Listen("hub.listen", h.cfg.Listen); err != nil {
		return err
	}
	h.cfg.Log.Info().Stringer("address", cfg.Listener.Addr()).Bool("encrypted", true).Bool("turn", share).Msg("The hub listens")
	port := inbound.New(cfg)
	h.parts.Go("HTTPS port", port.Run)
	if share {
		h.serveTURN(port.TURN(), turnserver.TLS)
	}
	h.parts.ServeHTTP(server, port.HTTP())
	return nil
}

// sharedTLS returns the TLS configuration of an HTTPS port that the relay shares. It also returns the server name whose clients all want the
// relay, "" if there is none. If the relay has a certificate of its own, clients that ask for this name get it.
func (h *hub) sharedTLS(https *tls.Config) (cfg *tls.Config, name string, err error) {
	if name = relayTLSHost(h.told.Load()); strings.EqualFold(name, publicHost(&h.cfg)) {
		return https, "", nil
	}
	if h.cfg.Relay.Certificate == (CertificateFiles{}) {
		return https, name, nil
	}
	own, err := h.certificates.relay()
	if err != nil {
		return nil, "", err
	}
	cfg = https.Clone()
	cfg.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if strings.EqualFold(hello.ServerName, name) {
			return own()
		}
		return https.GetCertificate(hello)
	}
	return cfg, name, nil
}

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bridge/hub/certificate"
	"multifactorymodel.org/ewindow/cmd/ewindow/config"
)

// testOnlyACMEClient speaks to the authority of a test.
var testOnlyACMEClient *http.Client

// certificates are where the TLS listeners of a hub have theirs from. Each kind is opened when the first listener asks.
type certificates struct {
	cfg   *config.Config
	parts *closers
	log   zerolog.Logger

	files map[[2]string]certificate.Source
	acme  *certificate.ACME
}

func newCertificates(cfg *config.Config, parts *closers, log zerolog.Logger) *certificates {
	return &certificates{
		cfg: cfg, parts: parts, log: log.With().Str("part", "certificates").Logger(), files: make(map[[2]string]certificate.Source),
	}
}

// https returns the source of hub.listen.
func (c *certificates) https() (certificate.Source, error) {
	h := &c.cfg.Hub
	if h.ACME.Enabled {
		return c.authority()
	}
	source, err := c.open(h.TLSCertificate, h.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("hub.tls_certificate and hub.tls_key can't be used: %w", err)
	}
	return source, nil
}

// turn returns what the TURN server's TLS listeners ask: its own files, else what hub.listen uses.
func (c *certificates) turn() (func() (*tls.Certificate, error), error) {
	h := &c.cfg.Hub
	source, err := certificate.Source(nil), error(nil)
	if t := &h.TurnServer; t.TLSCertificate != "" {
		if source, err = c.open(t.TLSCertificate, t.TLSKey); err != nil {
			err = fmt.Errorf("hub.turnserver.tls_certificate and hub.turnserver.tls_key can't be used: %w", err)
		}
	} else {
		source, err = c.https()
	}
	if err != nil {
		return nil, err
	}
	name := ""
	if names := h.CertificateNames(); len(names) > 0 {
		name = names[len(names)-1] // the relay's own, if it has one
	}
	return source.Of(name), nil
}

func (c *certificates) open(chain, key string) (certificate.Source, error) {
	paths := [2]string{chain, key}
	if known := c.files[paths]; known != nil {
		return known, nil
	}
	files, err := certificate.OpenFiles(chain, key, c.log)
	if err != nil {
		return nil, err
	}
	c.files[paths] = files.Certificate
	return files.Certificate, nil
}

func (c *certificates) authority() (certificate.Source, error) {
	if c.acme == nil {
		h := &c.cfg.Hub
		var err error
		if c.acme, err = certificate.NewACME(certificate.ACMEConfig{
			Names: h.CertificateNames(), Email: h.ACME.Email, DirectoryURL: h.ACME.DirectoryURL,
			Cache: filepath.Join(c.cfg.DataDir, "acme"), Client: testOnlyACMEClient, Log: c.log,
		}); err != nil {
			return nil, fmt.Errorf("hub.acme: %w", err)
		}
	}
	return c.acme.Certificate, nil
}

// run obtains certificates from the authority, if one is in use. It is called when the listeners are open, since the authority looks there.
func (c *certificates) run() error {
	if c.acme == nil {
		return nil
	}
	h := &c.cfg.Hub
	if h.ACME.HTTPListen != "" {
		listener, err := listen("hub.acme.http_listen", h.ACME.HTTPListen)
		if err != nil {
			return err
		}
		c.log.Info().Stringer("address", listener.Addr()).Msg("The port for the authority's checks is open")
		serve(&http.Server{
			Handler: c.acme.Handler(h.PublicURL), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
			MaxHeaderBytes: 16 << 10, ErrorLog: discardLog,
		}, listener, c.parts)
	}
	c.parts.run("certificates", c.acme.Run)
	return nil
}

// listen opens a TCP listener that a key of the configuration names.
func listen(key, address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: %s is used by another program: end that one, or choose another port", key, address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s: this user may not open %s: let systemd give the service CAP_NET_BIND_SERVICE, or choose a port above 1023", key, address)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return listener, nil
}

// serve runs an HTTP server until its turn to end comes.
func serve(server *http.Server, listener net.Listener, parts *closers) {
	parts.run("HTTP server", func(ctx context.Context) error {
		context.AfterFunc(ctx, func() {
			limit, cancel := context.WithTimeout(context.Background(), stopLimit)
			defer cancel()
			if server.Shutdown(limit) != nil {
				_ = server.Close()
			}
		})
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
}

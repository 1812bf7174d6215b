package hub

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bridge/hub/certificate"
	"multifactorymodel.org/ewindow/bridge/lifecycle"
)

// certificates gives the TLS listeners of a hub their certificates. Each source is opened when the first listener asks for it. All listeners
// share it, so that HTTPS and relay never have different versions of one file.
type certificates struct {
	cfg *Config
	log zerolog.Logger

	files map[CertificateFiles]certificate.Source
	acme  *certificate.ACME // nil before a listener asks for it
}

func newCertificates(cfg *Config) *certificates {
	return &certificates{
		cfg: cfg, log: cfg.Log.With().Str("part", "certificates").Logger(), files: make(map[CertificateFiles]certificate.Source),
	}
}

// https returns the source of Config.Listen.
func (c *certificates) https() (certificate.Source, error) {
	if c.cfg.ACME != nil {
		return c.authority()
	}
	source, err := c.open(c.cfg.Certificate)
	if err != nil {
		return nil, fmt.Errorf("hub.tls_certificate and hub.tls_key can't be used: %w", err)
	}
	return source, nil
}

// relay returns the function that gives the relay's TLS listeners their certificate. It comes from the relay's own files, else from the source
// that Config.Listen uses.
func (c *certificates) relay() (func() (*tls.Certificate, error), error) {
	var (
		source certificate.Source
		err    error
	)
	if own := c.cfg.Relay.Certificate; own != (CertificateFiles{}) {
		if source, err = c.open(own); err != nil {
			err = fmt.Errorf("hub.turnserver.tls_certificate and hub.turnserver.tls_key can't be used: %w", err)
		}
	} else {
		source, err = c.https()
	}
	if err != nil {
		return nil, err
	}
	name := ""
	if names := certificateNames(c.cfg); len(names) > 0 {
		name = names[len(names)-1]
	}
	return source.Of(name), nil
}

func (c *certificates) open(files CertificateFiles) (certificate.Source, error) {
	if known := c.files[files]; known != nil {
		return known, nil
	}
	opened, err := certificate.OpenFiles(files.Chain, files.Key, c.log)
	if err != nil {
		return nil, err
	}
	c.files[files] = opened.Certificate
	return opened.Certificate, nil
}

func (c *certificates) authority() (certificate.Source, error) {
	if c.acme == nil {
		var err error
		if c.acme, err = certificate.NewACME(certificate.ACMEConfig{
			Names: certificateNames(c.cfg), Email: c.cfg.ACME.Email, DirectoryURL: c.cfg.ACME.DirectoryURL,
			Cache: filepath.Join(c.cfg.DataDir, "acme"), Log: c.log,
		}); err != nil {
			return nil, fmt.Errorf("hub.acme: %w", err)
		}
	}
	return c.acme.Certificate, nil
}

// start obtains certificates from the authority, if a listener uses one. The listeners must be open, since the authority checks them.
func (c *certificates) start(parts *lifecycle.Group) error {
	if c.acme == nil {
		return nil
	}
	if address := c.cfg.ACME.HTTPListen; address != "" {
		listener, err := lifecycle.Listen("hub.acme.http_listen", address)
		if err != nil {
			return err
		}
		c.log.Info().Stringer("address", listener.Addr()).Msg("The port for the authority's checks is open")
		parts.ServeHTTP(&http.Server{
			Handler: c.acme.Handler(c.cfg.PublicURL), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
		}, listener)
	}
	parts.Go("certificates", c.acme.Run)
	return nil
}

package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"go.mau.fi/util/exhttp"
	"maunium.net/go/mautrix/federation"

	"multifactorymodel.org/ewindow/bot/matrixerror"
)

const (
	// nameTimeout is how long one look for our own name may take.
	nameTimeout = 15 * time.Second
	// The first look comes nameFirst after the start, when a certificate may have come. As long as the name does not lead here, others follow, each after
	// twice as long a pause, and nameLast at most.
	nameFirst, nameLast = 10 * time.Second, time.Hour
	// maxKeys is how long Dendrite's answer with its keys may be, in bytes.
	maxKeys = 64 << 10
)

// watchName looks for our own homeserver by its name, as other homeservers do. If they can't find it, the log says what to put where. It ends when that
// is mended.
func (h *hub) watchName(ctx context.Context) error {
	told := ""
	for pause := nameFirst; ; pause = min(2*pause, nameLast) {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		err := findName(ctx, h.cfg.Homeserver.ServerName, h.cfg.PublicURL, h.local, nil)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			if told != "" {
				h.cfg.Log.Info().Str("server_name", h.cfg.Homeserver.ServerName).Msg("Other homeservers find this one by its name now")
			}
			return nil
		}
		if text := err.Error(); text != told {
			told = text
			h.cfg.Log.Warn().Err(err).Str("server_name", h.cfg.Homeserver.ServerName).Msg("Other homeservers do not find this one")
		}
	}
}

// findName looks for a homeserver by its name (Server-Server API, "Resolving server names"), and compares its keys with those at address, where it serves
// plain HTTP. The error says what to do. publicURL is where it can be reached. roots are the authorities that certificates are checked with; nil means the
// system's.
func findName(ctx context.Context, serverName, publicURL, address string, roots *x509.CertPool) error {
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	public, err := url.Parse(publicURL)
	if err != nil {
		return err
	}
	delegate := public.Host
	if public.Port() == "" {
		delegate += ":443" // otherwise it would mean 8448
	}
	settings := exhttp.SensibleClientSettings
	settings.GlobalTimeout, settings.TLSConfig = nameTimeout, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	client := federation.NewClient("", nil, nil, settings)
	client.AllowIP = func(net.IP) bool { return true } // a hub may be in a private network
	found, err := client.ServerKeys(ctx, serverName)
	if err != nil && delegate == serverName {
		return fmt.Errorf("%s does not answer (%w): let this port through firewalls and routers, also from the hub itself, and check its certificate",
			serverName, matrixerror.WithoutURL(err))
	}
	elsewhere := fmt.Sprintf("https://%s/.well-known/matrix/server has to answer {\"m.server\": %q}, or hub.homeserver.server_name has to be %q from the beginning",
		serverName, delegate, delegate)
	if err != nil {
		return fmt.Errorf("the name leads to nothing (%w): %s", matrixerror.WithoutURL(err), elsewhere)
	}
	own, err := ownKeys(ctx, address)
	if err != nil {
		return err
	}
	for name, key := range own.VerifyKeys {
		if found.VerifyKeys[name].Key == key.Key {
			return nil
		}
	}
	return errors.New("the name leads to another homeserver: " + elsewhere)
}

// ownKeys reads the keys of the homeserver at an address of this machine.
func ownKeys(ctx context.Context, address string) (keys federation.ServerKeyResponse, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/_matrix/key/v2/server", nil)
	if err != nil {
		return keys, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return keys, fmt.Errorf("ask Dendrite for its keys: %w", err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxKeys)).Decode(&keys); err != nil {
		return keys, fmt.Errorf("ask Dendrite for its keys: %w", err)
	}
	return keys, nil
}

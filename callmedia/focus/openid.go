package focus

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
	"net/netip"
	"net/url"
	"strings"
	"time"

	"maunium.net/go/mautrix/federation"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

// Limits of one look-up.
const (
	lookupLimit  = 10 * time.Second // all requests together
	connectLimit = 5 * time.Second
	maxRedirects = 3
	maxTargets   = 3 // addresses of one server that are tried (from SRV records)
	maxHeaders   = 16 << 10
	maxUserInfo  = 16 << 10
	maxMatrixID  = 255
	acceptJSON   = "application/json"
)

var (
	errRedirect  = errors.New("too many redirects, or one to a page without encryption")
	errNoAddress = errors.New("the server's name can't be part of an address")
	errNoFile    = errors.New("the server's .well-known file can't be read")
)

// openIDLookup asks homeservers whose OpenID token a token is. It may be used by several goroutines.
type openIDLookup struct {
	resolve *federation.ResolveServerNameOpts
	client  *http.Client
	own     func() (serverName, address string)
	local   *http.Client // for own, whose address the policy refuses
}

// targetsKey is the key under which a request's context holds the addresses to connect to.
type targetsKey struct{}

// newOpenIDLookup makes an openIDLookup that connects only to addresses for which allowed returns true. roots are the authorities that
// homeservers' certificates are checked with; nil means the system's. own may be nil, see ServiceConfig.
func newOpenIDLookup(allowed func(netip.Addr) bool, roots *x509.CertPool, own func() (serverName, address string)) *openIDLookup {
	if own == nil {
		own = func() (serverName, address string) { return "", "" }
	}
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	dialer := &net.Dialer{
		Timeout: connectLimit, KeepAlive: -1, Control: addrpolicy.Control(allowed),
	}
	transport := func() *http.Transport {
		return &http.Transport{
			Proxy: nil, // a proxy would connect without asking the policy
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				targets, ok := ctx.Value(targetsKey{}).([]string)
				if !ok {
					targets = []string{address}
				}
				var errs []error
				for _, target := range targets[:min(len(targets), maxTargets)] {
					conn, err := dialer.DialContext(ctx, network, target)
					if err == nil {
						return conn, nil
					}
					errs = append(errs, err)
				}
				return nil, errors.Join(errs...)
			},
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    connectLimit,
			ResponseHeaderTimeout:  connectLimit,
			MaxResponseHeaderBytes: maxHeaders,
			DisableCompression:     true, // so that the limit counts what comes over the network
			DisableKeepAlives:      true, // no connection to a stranger's server stays open
		}
	}
	return &openIDLookup{
		resolve: &federation.ResolveServerNameOpts{HTTPClient: &http.Client{
			Transport: transport(),
			CheckRedirect: func(r *http.Request, via []*http.Request) error {
				if len(via) > maxRedirects || r.URL.Scheme != "https" {
					return errRedirect
				}
				return nil
			},
		}},
		client: &http.Client{Transport: transport(), CheckRedirect: noRedirect},
		own:    own,
		local:  &http.Client{Transport: &http.Transport{Proxy: nil, MaxResponseHeaderBytes: maxHeaders}, CheckRedirect: noRedirect},
	}
}

// user asks a homeserver over federation whose token this is. It returns only users of that very homeserver.
func (d *openIDLookup) user(ctx context.Context, server, token string) (id.UserID, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	client, base := d.local, ""
	if name, address := d.own(); name == server {
		base = address
	}
	if base == "" {
		at, err := federation.ResolveServerName(ctx, server, d.resolve)
		if err != nil {
			return "", fmt.Errorf("find the homeserver: %w", withoutURL(err))
		}
		if !validServerName(at.HostHeader) {
			return "", errors.New("find the homeserver: what it delegates to is not a server name")
		}
		client, base, ctx = d.client, "https://"+at.HostHeader, context.WithValue(ctx, targetsKey{}, at.IPPort)
	}
	address := base + "/_matrix/federation/v1/openid/userinfo?" + url.Values{"access_token": {token}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", errors.New("ask the homeserver: its address is not valid")
	}
	request.Header.Set("Accept", acceptJSON)
	answer, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("ask the homeserver: %w", withoutURL(err))
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask the homeserver: status %d", answer.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxUserInfo+1))
	if err != nil || len(text) > maxUserInfo {
		return "", errors.New("ask the homeserver: its answer can't be read or is too long")
	}
	return readUserInfo(text, server)
}

// readUserInfo reads the user in a homeserver's answer. It checks the server name: otherwise any server could name any user.
func readUserInfo(text []byte, server string) (id.UserID, error) {
	var info struct {
		Sub string `json:"sub"`
	}
	if err := json.Unmarshal(text, &info); err != nil {
		return "", errors.New("ask the homeserver: its answer is not the expected JSON")
	}
	local, host, ok := strings.Cut(strings.TrimPrefix(info.Sub, "@"), ":")
	if !ok || local == "" || info.Sub[0] != '@' || len(info.Sub) > maxMatrixID || checkName("sub", info.Sub) != nil {
		return "", errors.New("ask the homeserver: its answer names no user")
	}
	if host != server {
		return "", errors.New("ask the homeserver: it answered with a user of another one")
	}
	return id.UserID(info.Sub), nil
}

// withoutURL removes the URL from an error of net/http: it contains the token.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

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
	"syscall"
	"time"

	"maunium.net/go/mautrix/federation"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

// Bounds of a look-up.
const (
	lookupLimit  = 10 * time.Second // in all
	connectLimit = 5 * time.Second
	maxRedirects = 3
	maxTargets   = 3 // addresses of one server that are tried (SRV records)
	maxHeaders   = 16 << 10
	maxUserInfo  = 16 << 10
	maxMatrixID  = 255
	acceptJSON   = "application/json"
)

var (
	// errAddress says that a server is at an address that must not be connected to.
	errAddress  = errors.New("the server's address is not one that may be connected to")
	errRedirect = errors.New("too many redirects, or one to a page without encryption")
)

// directory finds out whose an OpenID token is.
type directory struct {
	resolve *federation.ResolveServerNameOpts
	client  *http.Client
}

// targetsKey is where a request's context holds the addresses to connect to.
type targetsKey struct{}

func newDirectory(allowed func(netip.Addr) bool, roots *x509.CertPool) *directory {
	dialer := &net.Dialer{
		Timeout: connectLimit, KeepAlive: -1,
		// Asked with the very address that is about to be connected to, so that a name can't change its meaning after the check.
		Control: func(_, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil || !addrpolicy.Reachable(to.Addr(), allowed) {
				return errAddress
			}
			return nil
		},
	}
	transport := func() *http.Transport {
		return &http.Transport{
			Proxy: nil, // it would connect for us, unasked
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
			DisableCompression:     true, // so that what is read is what is counted
			DisableKeepAlives:      true, // strangers' connections are not kept
		}
	}
	return &directory{
		resolve: &federation.ResolveServerNameOpts{HTTPClient: &http.Client{
			Transport: transport(),
			CheckRedirect: func(r *http.Request, via []*http.Request) error {
				if len(via) > maxRedirects || r.URL.Scheme != "https" {
					return errRedirect
				}
				return nil
			},
		}},
		client: &http.Client{
			Transport:     transport(),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// user asks a homeserver whose token it is, over federation. The answer is one of that homeserver's own users.
func (d *directory) user(ctx context.Context, server, token string) (id.UserID, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	at, err := federation.ResolveServerName(ctx, server, d.resolve)
	if err != nil {
		return "", fmt.Errorf("find the homeserver: %w", bare(err))
	}
	if !validServerName(at.HostHeader) {
		return "", errors.New("find the homeserver: what it delegates to is not a server name")
	}
	address := url.URL{
		Scheme: "https", Host: at.HostHeader, Path: "/_matrix/federation/v1/openid/userinfo",
		RawQuery: url.Values{"access_token": {token}}.Encode(),
	}
	request, err := http.NewRequestWithContext(context.WithValue(ctx, targetsKey{}, at.IPPort), http.MethodGet, address.String(), nil)
	if err != nil {
		return "", errors.New("ask the homeserver: its address is not one")
	}
	request.Header.Set("Accept", acceptJSON)
	answer, err := d.client.Do(request)
	if err != nil {
		return "", fmt.Errorf("ask the homeserver: %w", bare(err))
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

// readUserInfo takes the user out of a homeserver's answer. Without the check of the name any server could claim any user.
func readUserInfo(text []byte, server string) (id.UserID, error) {
	var info struct {
		Sub string `json:"sub"`
	}
	if err := json.Unmarshal(text, &info); err != nil {
		return "", errors.New("ask the homeserver: its answer is not the JSON that is due")
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

// bare takes the address off an error of net/http: it holds the token.
func bare(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

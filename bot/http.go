package bot

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

// How requests to the homeserver are repeated and limited.
const (
	retries       = 4
	retryPause    = time.Second // the first; each further one is twice as long
	maxRetryPause = 30 * time.Second
	maxResponse   = 64 << 20 // bytes; the first sync of an account with large rooms
)

// NewHTTPClient returns an HTTP client as the bot uses it for its homeserver. Package rtc uses one for our own authorisation service. It notices
// within seconds that a connection is dead, for example after a change of our address.
func NewHTTPClient() *http.Client {
	return newHTTPClient(http.ProxyFromEnvironment, &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second})
}

// NewGuardedHTTPClient returns an HTTP client for addresses that others have named. It connects only where allowed returns true, also after a
// redirect (see [addrpolicy.Control]), and uses no proxy, since a proxy would connect without asking.
func NewGuardedHTTPClient(allowed func(netip.Addr) bool) *http.Client {
	return newHTTPClient(nil, &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second, Control: addrpolicy.Control(allowed)})
}

func newHTTPClient(proxy func(*http.Request) (*url.URL, error), dialer *net.Dialer) *http.Client {
	return &http.Client{
		// Joining a room of another homeserver takes long. Requests that must be faster have a context with a deadline.
		Timeout: 3 * time.Minute,
		Transport: &http.Transport{
			Proxy:               proxy,
			DialContext:         dialer.DialContext,
			TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConnsPerHost: 8,
			IdleConnTimeout:     90 * time.Second,
			ForceAttemptHTTP2:   true,
			HTTP2:               &http.HTTP2Config{SendPingTimeout: 3 * time.Second, PingTimeout: 3 * time.Second},
		},
	}
}

// libraryLog is the logger for mautrix. It drops everything below info, and the lines about failed requests, because both contain bodies of
// requests. The caller of a request gets its error anyway. It writes at most 20 lines a minute, since other people's servers can cause
// them.
func libraryLog(log zerolog.Logger) zerolog.Logger {
	return log.Level(max(log.GetLevel(), zerolog.InfoLevel)).
		Sample(&zerolog.BurstSampler{Burst: 20, Period: time.Minute}).
		Hook(zerolog.HookFunc(func(e *zerolog.Event, _ zerolog.Level, message string) {
			if strings.HasPrefix(message, "Request ") {
				e.Discard()
			}
		}))
}

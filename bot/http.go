package bot

import (
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// How requests to the homeserver are repeated and capped.
const (
	retries       = 4
	retryPause    = time.Second // the first; each further one is twice as long
	maxRetryPause = 30 * time.Second
	maxResponse   = 64 << 20 // bytes; the first sync of an account with large rooms
)

// NewHTTPClient returns the client that a bot speaks to its homeserver with, for what else a call depends on as well: a connection that has died, as
// after a change of our address, is noticed within seconds, and nothing waits for it.
func NewHTTPClient() *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Client{
		// Joining a room of another homeserver takes long. What should be answered sooner has a context that says so.
		Timeout: 3 * time.Minute,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         dialer.DialContext,
			TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConnsPerHost: 8,
			IdleConnTimeout:     90 * time.Second,
			ForceAttemptHTTP2:   true,
			HTTP2:               &http.HTTP2Config{SendPingTimeout: 3 * time.Second, PingTimeout: 3 * time.Second},
		},
	}
}

// libraryLog is the logger for mautrix. It never says less important things than info, since those hold bodies of requests; nor does it
// pass on what mautrix says about a request that has failed, which holds them too. Whoever made the request gets the error. Since other
// people's servers can cause its lines, there are at most so many of them.
func libraryLog(log zerolog.Logger) zerolog.Logger {
	return log.Level(max(log.GetLevel(), zerolog.InfoLevel)).
		Sample(&zerolog.BurstSampler{Burst: 20, Period: time.Minute}).
		Hook(zerolog.HookFunc(func(e *zerolog.Event, _ zerolog.Level, message string) {
			if strings.HasPrefix(message, "Request ") {
				e.Discard()
			}
		}))
}

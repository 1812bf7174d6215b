package focus

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/turnserver/limit"
)

const (
	// A workshop that shares one address joins with a few devices at a time. Each of them asks again while it can't get in.
	sourceRate, sourceBurst = 2, 40
	// What strangers may make us ask of a homeserver that is not listed.
	serverRate, serverBurst = 5, 50
	// Look-ups that go on at the same time, and how many of them at one homeserver.
	maxLookups, maxServerLookups = 64, 16
)

// limits bounds what callers may ask, and what they may make us ask of homeservers.
type limits struct {
	sources *limit.Rate[string]      // requests by who asks
	servers *limit.Rate[string]      // look-ups by homeserver that is not listed
	listed  *limit.Semaphore[string] // look-ups that go on at listed homeservers
	foreign *limit.Semaphore[string] // look-ups that go on at others: if those are slow, listed ones need not wait
}

func newLimits() limits {
	return limits{
		sources: limit.NewRate[string](sourceRate, sourceBurst), servers: limit.NewRate[string](serverRate, serverBurst),
		listed: limit.NewSemaphore[string](maxLookups, maxLookups), foreign: limit.NewSemaphore[string](maxLookups, maxServerLookups),
	}
}

// allow counts a request, or refuses it. source is who asks, server the homeserver that the request names. Listed homeservers are the network's
// own, and have no rate limit: a stranger who names them must not lock their users out.
func (l limits) allow(now time.Time, source, server string, listed bool) *apiError {
	if !l.sources.Allow(now, source) {
		return tooMany(l.sources.Wait(now, source))
	}
	if !listed && !l.servers.Allow(now, server) {
		return tooMany(l.servers.Wait(now, server))
	}
	return nil
}

// allowUser counts a request of a user whom their homeserver has confirmed, or refuses it.
func (l limits) allowUser(now time.Time, user id.UserID) *apiError {
	if !l.sources.Allow(now, user.String()) {
		return tooMany(l.sources.Wait(now, user.String()))
	}
	return nil
}

// lookups returns the semaphore for look-ups at a homeserver.
func (l limits) lookups(listed bool) *limit.Semaphore[string] {
	if listed {
		return l.listed
	}
	return l.foreign
}

// tooMany refuses a request until wait has passed.
func tooMany(wait time.Duration) *apiError {
	return &apiError{
		status: http.StatusTooManyRequests, code: "M_LIMIT_EXCEEDED", message: "Too many requests.", retryMS: max(wait.Milliseconds(), 1),
	}
}

// source names who asks: the address, for IPv6 the /64. If the request comes from a proxy on this machine, the last address in its
// X-Forwarded-For header counts. Nobody else's header is believed.
func source(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	if a.Unmap().IsLoopback() {
		list := strings.Split(r.Header.Get("X-Forwarded-For"), ",")
		if client, err := netip.ParseAddr(strings.TrimSpace(list[len(list)-1])); err == nil {
			a = client
		}
	}
	if a = limit.Source(a); a.Is6() {
		return netip.PrefixFrom(a, 64).String()
	}
	return a.String()
}

package bot

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/turnserver/limit"
)

// How often other users can make us ask for their keys, and how often they can ask for ours. Each number is how many requests may come at once,
// and how many may come in each minute after that. Changed device lists do not count.
const (
	perUser   = 6
	perServer = 60
	perMinute = 200 // of all users
)

// keyLimit limits what strangers can make us do with keys. Without it, every message from an unknown device would make us ask for the sender's
// devices. A user, a homeserver and all of them together have a token bucket each. An empty bucket is full again after a minute. Its methods may
// be called from any goroutine.
type keyLimit struct {
	mu      sync.Mutex // so that all three limits are asked in one step
	users   *limit.Rate[id.UserID]
	servers *limit.Rate[string]
	all     *rate.Limiter
}

func newKeyLimit() *keyLimit {
	return &keyLimit{
		users:   limit.NewRate[id.UserID](perUser/60., perUser),
		servers: limit.NewRate[string](perServer/60., perServer),
		all:     rate.NewLimiter(perMinute/60., perMinute),
	}
}

// allow says whether a user may cause a request now, and counts it if so.
func (l *keyLimit) allow(user id.UserID, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	server := user.Homeserver()
	if l.users.Wait(now, user) > 0 || l.servers.Wait(now, server) > 0 || !l.all.AllowN(now, 1) {
		return false
	}
	return l.users.Allow(now, user) && l.servers.Allow(now, server)
}

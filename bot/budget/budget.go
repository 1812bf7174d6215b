// Package budget limits what other users can make the bot do: how many of their messages it looks at, and how much work these cause.
package budget

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/turnserver/limit"
)

// How much work the messages of other users can make for us: asking homeservers for keys, and answers. All kinds of it come out of one budget. Each
// number is how much may come at once; the second of a pair is how much comes back in each minute. Changed device lists do not count.
const (
	perUser, perUserMinute     = 5, 2
	perServer, perServerMinute = 60, 60
	perMinute                  = 200 // of all users
)

// How many to-device messages are looked at.
const (
	messagesPerUser, messagesPerUserMinute     = 300, 120
	messagesPerServer, messagesPerServerMinute = 3000, 1200
	messagesPerMinute                          = 6000 // of all users
)

// Budget limits what others can make us do. A user, a homeserver and all of them together have a token bucket each. Make one with [NewWork] or
// [NewMessages]. Its methods may be called from any goroutine.
type Budget struct {
	mu      sync.Mutex // so that all three limits are asked in one step
	users   *limit.Rate[id.UserID]
	servers *limit.Rate[string]
	all     *rate.Limiter
}

// NewWork is for work that messages cause.
func NewWork() *Budget {
	return newBudget(perUser, perUserMinute, perServer, perServerMinute, perMinute)
}

// NewMessages is for the messages themselves.
func NewMessages() *Budget {
	return newBudget(messagesPerUser, messagesPerUserMinute, messagesPerServer, messagesPerServerMinute, messagesPerMinute)
}

func newBudget(user int, userMinute float64, server int, serverMinute float64, minute int) *Budget {
	return &Budget{
		users:   limit.NewRate[id.UserID](userMinute/60, user),
		servers: limit.NewRate[string](serverMinute/60, server),
		all:     rate.NewLimiter(rate.Limit(minute)/60, minute),
	}
}

// Allow says whether a user may cause something now, and counts it if so.
func (l *Budget) Allow(user id.UserID, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	server := user.Homeserver()
	if l.users.Wait(now, user) > 0 || l.servers.Wait(now, server) > 0 || !l.all.AllowN(now, 1) {
		return false
	}
	return l.users.Allow(now, user) && l.servers.Allow(now, server)
}

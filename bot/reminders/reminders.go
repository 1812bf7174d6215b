// Package reminders says when to do something once more for users who have not done what they should have done, such as joining a room. The waits grow,
// and after some reminders nothing happens any more until the user shows a new sign of life.
package reminders

import (
	"maps"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/backoff"
)

// Max is how often a user is reminded who shows no sign of life.
const Max = 5

// List is the users who are waited for. It belongs to one goroutine.
type List struct {
	first time.Duration
	of    map[id.UserID]*reminder
}

type reminder struct {
	sign  id.EventID
	pause backoff.Backoff
	next  time.Time
}

// shortest is the shortest wait after a reminder.
const shortest = time.Second

// New makes an empty list. first is how long a user may take. After each reminder they may take twice as long as before, and a second or more.
func New(first time.Duration) *List {
	return &List{first, make(map[id.UserID]*reminder)}
}

// Due returns the users who are to be reminded now. absent are all who are waited for, with their last signs of life: events of theirs of some kind.
// wake is when to ask again, zero for never.
func (l *List) Due(now time.Time, absent map[id.UserID]id.EventID) (users []id.UserID, wake time.Time) {
	maps.DeleteFunc(l.of, func(user id.UserID, _ *reminder) bool {
		_, still := absent[user]
		return !still
	})
	for user, sign := range absent {
		r := l.of[user]
		if r == nil {
			r = &reminder{next: now.Add(l.first), pause: backoff.Backoff{
				Min: max(l.first, shortest), Max: max(l.first, shortest) << Max, Random: func() float64 { return 1 },
			}}
			l.of[user] = r
		}
		if r.sign != sign {
			r.sign = sign
			r.pause.Reset()
		}
		switch {
		case r.pause.Failures() >= Max:
		case now.Before(r.next):
			wake = backoff.Earlier(wake, r.next)
		default:
			users = append(users, user)
			r.next = now.Add(r.pause.Next())
			wake = backoff.Earlier(wake, r.next)
		}
	}
	return users, wake
}

package bot

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.mau.fi/util/retryafter"
	"maunium.net/go/mautrix"

	"multifactorymodel.org/ewindow/bot/backoff"
)

// Pauses between attempts to reach the homeserver.
const (
	minPause = 500 * time.Millisecond
	// maxPause is for a homeserver that answers, but with an error. It may be overloaded.
	maxPause = 30 * time.Second
	// maxAwayPause is for a homeserver that does not answer at all, or whose proxy answers instead. Such requests cost it nothing, and a
	// window should be back soon after its hub.
	maxAwayPause = 4 * time.Second
	// maxNamedPause is the longest pause that a homeserver can ask for.
	maxNamedPause = 10 * time.Minute
)

// connection is what is known about the connection to the homeserver. It belongs to the goroutine of Start and Run.
type connection struct {
	known  bool
	online bool
	since  time.Time // when online became what it is
	pause  backoff.Backoff
}

// pauseAfter is how long to wait after an error. If the homeserver names a time (429), it is respected.
func (c *connection) pauseAfter(err error) time.Duration {
	c.pause.Min, c.pause.Max = minPause, maxPause
	if away(err) {
		c.pause.Max = maxAwayPause
	}
	p := c.pause.Next()
	var answer mautrix.HTTPError
	if errors.As(err, &answer) && answer.IsStatus(http.StatusTooManyRequests) {
		p = max(p, min(retryafter.Parse(answer.Response.Header.Get("Retry-After"), 0), maxNamedPause))
	}
	return p
}

// connected notes that the homeserver has answered.
func (b *Bot) connected() {
	c := &b.connection
	c.pause.Reset()
	if c.known && c.online {
		return
	}
	if c.known {
		b.log.Info().Dur("after", time.Since(c.since)).Msg("The homeserver can be reached again")
	}
	c.known, c.online, c.since = true, true, time.Now()
	b.cfg.OnHomeserver(true, c.since)
}

// disconnected notes that the homeserver did not answer, or answered with an error, and waits. If the context ends, it returns the context's
// error.
func (b *Bot) disconnected(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c := &b.connection
	if !c.known || c.online {
		c.known, c.online, c.since = true, false, time.Now()
		b.log.Warn().Err(short(err)).Str("url", b.cfg.HomeserverURL).Msg("The homeserver can't be reached: trying until it can")
		b.cfg.OnHomeserver(false, c.since)
	}
	timer := time.NewTimer(c.pauseAfter(err))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// persist calls f until it succeeds, or until it returns an error that another try would not change.
func (b *Bot) persist(ctx context.Context, f func(ctx context.Context) error) error {
	for {
		err := f(ctx)
		if err == nil {
			b.connected()
			return nil
		}
		if ctx.Err() != nil || !transient(err) {
			return err
		}
		if err := b.disconnected(ctx, err); err != nil {
			return err
		}
	}
}

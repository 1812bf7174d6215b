package bot

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"go.mau.fi/util/retryafter"
	"maunium.net/go/mautrix"
)

// Pauses between attempts to reach the homeserver.
const (
	minPause = time.Second
	// maxPause is for a homeserver that answers, but not as it should: it may be overloaded.
	maxPause = 30 * time.Second
	// maxAwayPause is for one that doesn't answer at all, or whose proxy answers for it. Asking costs it nothing, and a window should be
	// back soon after its hub.
	maxAwayPause = 4 * time.Second
	// maxNamedPause is the longest that a homeserver can ask for.
	maxNamedPause = 10 * time.Minute
)

// pause is how long to wait after the nth failed attempt in a row, n counted from 0. random is from 0 to 1: bots that lost a homeserver at
// the same moment must not come back at the same moment.
func pause(n int, longest time.Duration, random float64) time.Duration {
	p := longest
	if n < 10 {
		p = min(minPause<<n, longest)
	}
	return p - time.Duration(random*float64(p)/2)
}

// pauseAfter is how long to wait after an error. A homeserver that names a time (429) gets it.
func pauseAfter(err error, n int, random float64) time.Duration {
	longest := maxPause
	if away(err) {
		longest = maxAwayPause
	}
	p := pause(n, longest, random)
	var answer mautrix.HTTPError
	if errors.As(err, &answer) && answer.IsStatus(http.StatusTooManyRequests) {
		p = max(p, min(retryafter.Parse(answer.Response.Header.Get("Retry-After"), 0), maxNamedPause))
	}
	return p
}

// link is what is known about the homeserver: whether it can be reached, and since when that is so. It belongs to one goroutine.
type link struct {
	known  bool
	online bool
	since  time.Time
	failed int // attempts in a row
}

// up notes that the homeserver has answered.
func (b *Bot) up() {
	l := &b.link
	l.failed = 0
	if l.known && l.online {
		return
	}
	if l.known {
		b.log.Info().Dur("after", time.Since(l.since)).Msg("The homeserver can be reached again")
	}
	*l = link{known: true, online: true, since: time.Now()}
	b.cfg.OnHomeserver(true, l.since)
}

// down notes that the homeserver has not answered as it should, and waits. It returns the context's error when that ends.
func (b *Bot) down(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l := &b.link
	if !l.known || l.online {
		*l = link{known: true, since: time.Now()}
		b.log.Warn().Err(short(err)).Str("url", b.cfg.HomeserverURL).Msg("The homeserver can't be reached: trying until it can")
		b.cfg.OnHomeserver(false, l.since)
	}
	timer := time.NewTimer(pauseAfter(err, l.failed, rand.Float64()))
	defer timer.Stop()
	l.failed++
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// persist calls f until it succeeds or fails in a way that no repetition mends.
func (b *Bot) persist(ctx context.Context, f func(ctx context.Context) error) error {
	for {
		err := f(ctx)
		if err == nil {
			b.up()
			return nil
		}
		if ctx.Err() != nil || !transient(err) {
			return err
		}
		if err := b.down(ctx, err); err != nil {
			return err
		}
	}
}

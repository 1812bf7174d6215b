package transport

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/matrixerror"
)

// ErrNotAnnounced says that somebody named a service that no homeserver of theirs announces. Nothing was sent there.
var ErrNotAnnounced = errors.New("the service is not announced by the homeserver of anybody who uses it")

const (
	// announcedLife is how long a homeserver's announcement is believed, failedLife how long it is not asked again after it did not answer.
	announcedLife = 10 * time.Minute
	failedLife    = 5 * time.Second
	// maxAnnounced is how many homeservers are remembered.
	maxAnnounced = 256
)

// announcement is what a homeserver announces.
type announcement struct {
	services []string
	asked    bool // it has answered
	until    time.Time
}

// Announces says whether the .well-known file of a homeserver's name announces a service (MSC4143). The answer is remembered for ten minutes,
// and for as long as the homeserver does not answer again.
func (c *Client) Announces(ctx context.Context, server, service string) (bool, error) {
	if !id.ValidateServerName(server) {
		return false, nil
	}
	c.mu.Lock()
	known := c.announced[server]
	c.mu.Unlock()
	if now := time.Now(); now.After(known.until) {
		services, err := c.fetchServices(ctx, c.guardedFiles, server)
		switch refused := matrixerror.Of(err); {
		case err == nil, refused != nil && refused.Status == http.StatusNotFound:
			known = announcement{services, true, now.Add(announcedLife)}
		case ctx.Err() != nil:
			return false, err
		default:
			known.until = now.Add(failedLife)
		}
		c.remember(now, server, known)
		if !known.asked {
			return false, err
		}
	}
	return slices.Contains(known.services, service), nil
}

// remember keeps an announcement. When there are too many, all that are not believed any more are forgotten; if none is, one of them is.
func (c *Client) remember(now time.Time, server string, known announcement) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.announced) >= maxAnnounced {
		for name, a := range c.announced {
			if now.After(a.until) {
				delete(c.announced, name)
			}
		}
	}
	for name := range c.announced {
		if len(c.announced) < maxAnnounced {
			break
		}
		delete(c.announced, name)
	}
	c.announced[server] = known
}

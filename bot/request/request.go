// Package request makes requests to our homeserver in another way than mautrix does by itself: each is made once, its answer is short, and it leaves no
// line in the log. The caller decides whether to repeat it. mautrix logs the path of a request, and repeats it in errors; the path of a delayed event
// holds its id, and whoever knows that can send the event.
//
// Errors are [multifactorymodel.org/ewindow/bot/matrixerror.Error]s for refusals.
package request

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/matrixerror"
	"multifactorymodel.org/ewindow/bot/strictjson"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// MaxAnswer is the longest answer that is read, in bytes.
const MaxAnswer = 64 << 10

// Client makes the requests of one account. Its methods may be called from any goroutine.
type Client struct {
	client func() *mautrix.Client
	// delayInQuery: the homeserver wants a delay as a parameter and not in the body, see ScheduleState.
	delayInQuery atomic.Bool
	// actionInBody: the homeserver wants a delayed event's action in the body and not in the path, see UpdateDelayed.
	actionInBody atomic.Bool
}

// New makes a Client. client is called for each request.
func New(client func() *mautrix.Client) *Client { return &Client{client: client} }

// Once returns a mautrix client for one request of this kind. Its errors are mautrix's, see [matrixerror.FromMautrix].
func (c *Client) Once() *mautrix.Client {
	m := c.client()
	return &mautrix.Client{
		HomeserverURL: m.HomeserverURL, UserID: m.UserID, DeviceID: m.DeviceID, AccessToken: m.AccessToken, UserAgent: m.UserAgent,
		Client: m.Client, ResponseSizeLimit: MaxAnswer, IgnoreRateLimit: true, Log: zerolog.Nop(),
	}
}

// Do makes a request that mautrix has no method for, and returns its JSON answer. path has the parts below /_matrix/client.
func (c *Client) Do(ctx context.Context, method string, path []string, body any) (json.RawMessage, error) {
	parts := make([]any, len(path))
	for i, part := range path {
		parts[i] = part
	}
	client := c.Once()
	data, err := client.MakeFullRequest(ctx, mautrix.FullRequest{Method: method, URL: client.BuildClientURL(parts...), RequestJSON: body})
	if err != nil {
		return nil, matrixerror.FromMautrix(err)
	}
	return data, nil
}

// HasDelayed says whether the homeserver has delayed events (MSC4140).
func (c *Client) HasDelayed(ctx context.Context) (bool, error) {
	data, err := c.Do(ctx, http.MethodGet, []string{"versions"}, nil)
	if err != nil {
		return false, err
	}
	return parseVersions(data), nil
}

// parseVersions says whether the answer of /versions has the feature of delayed events.
func parseVersions(data []byte) (delayed bool) {
	o, _ := strictjson.Parse(data)
	features, _ := o.Object("unstable_features")
	return string(features[unstable.Delayed]) == "true"
}

// ScheduleState leaves a state event with the homeserver, which sends it after a delay (MSC4140), and returns the delayed event's id. It first uses the path
// of MSC4140's newest text. A homeserver that does not know it gets the older form, a parameter. If the homeserver does not know the parameter either, it
// has sent the event at once, and the error has the status 501.
func (c *Client) ScheduleState(
	ctx context.Context, room id.RoomID, t event.Type, key string, content any, delay time.Duration,
) (delayID string, err error) {
	if !c.delayInQuery.Load() {
		body := map[string]any{unstable.DelayMS: delay.Milliseconds(), "state_key": key, "content": content}
		answer, err := c.Do(ctx, http.MethodPut, unstable.SchedulePath(room.String(), t.Type, rand.Text()), body)
		if err == nil {
			return parseDelayID(answer)
		}
		if !matrixerror.IsUnsupported(err) {
			return "", err
		}
		c.delayInQuery.Store(true)
	}
	answer, err := c.Once().SendStateEvent(ctx, room, t, key, content, mautrix.ReqSendEvent{UnstableDelay: delay})
	if err != nil {
		return "", matrixerror.FromMautrix(err)
	}
	if answer.UnstableDelayID == "" {
		return "", &matrixerror.Error{Status: http.StatusNotImplemented}
	}
	return string(answer.UnstableDelayID), nil
}

// parseDelayID reads the id of an event that was scheduled.
func parseDelayID(data []byte) (string, error) {
	o, _ := strictjson.Parse(data)
	delayID, _ := o.Text("delay_id", strictjson.MaxName)
	if delayID == "" {
		return "", &matrixerror.Error{Status: http.StatusNotImplemented}
	}
	return delayID, nil
}

// UpdateDelayed restarts, sends or cancels a delayed event: action is one of package unstable. It first uses the path of MSC4140's newest text, which ends
// in the action. A homeserver that does not know it gets the older form, which has the action in the body.
func (c *Client) UpdateDelayed(ctx context.Context, delayID, action string) error {
	if !c.actionInBody.Load() {
		_, err := c.Do(ctx, http.MethodPost, append(unstable.DelayedPath(), delayID, action), nil)
		if !matrixerror.IsUnsupported(err) {
			return err
		}
	}
	_, err := c.Once().UpdateDelayedEvent(ctx, &mautrix.ReqUpdateDelayedEvent{DelayID: id.DelayID(delayID), Action: event.DelayAction(action)})
	if err == nil {
		c.actionInBody.Store(true)
	}
	return matrixerror.FromMautrix(err)
}

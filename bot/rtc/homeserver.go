package rtc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/rtc/matrixerror"
	"multifactorymodel.org/ewindow/bot/rtc/membership"
	"multifactorymodel.org/ewindow/bot/rtc/strictjson"
	"multifactorymodel.org/ewindow/bot/rtc/transport"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// Bot is what the package needs of a [bot.Bot]. Handlers are registered before the bot starts and called from one goroutine.
type Bot interface {
	UserID() id.UserID
	DeviceID() id.DeviceID
	ServerName() string
	Client() *mautrix.Client
	On(t event.Type, f func(ctx context.Context, e *event.Event))
	OnToDevice(t event.Type, f func(ctx context.Context, e bot.ToDevice))
	SendToDevice(ctx context.Context, t event.Type, content map[bot.Device]any) map[bot.Device]error
	Send(ctx context.Context, room id.RoomID, t event.Type, content any) (id.EventID, error)
	Encrypted(ctx context.Context, room id.RoomID) (bool, error)
}

var _ Bot = (*bot.Bot)(nil)

// homeserver is everything that the package asks of the homeserver. Refusals are matrixerror.Errors.
type homeserver interface {
	membership.Homeserver
	transport.Homeserver
	// Self is our own device. It is empty until the bot was started.
	Self() bot.Device
	// OpenID fetches a fresh OpenID token, as JSON.
	OpenID(ctx context.Context) (json.RawMessage, error)
	// SFUToken asks for access to the SFU behind the homeserver's own service, and returns that service, too.
	SFUToken(ctx context.Context, room id.RoomID) (service, sfu, jwt string, err error)
	// SendKeys sends media keys, Olm-encrypted. It returns the devices that did not get theirs.
	SendKeys(ctx context.Context, content map[bot.Device]any) map[bot.Device]error
	// Send sends an event to a room, encrypted when the room is.
	Send(ctx context.Context, room id.RoomID, t event.Type, content any) (id.EventID, error)
	Encrypted(ctx context.Context, room id.RoomID) (bool, error)
}

// matrix is the homeserver of a bot.
type matrix struct {
	bot    Bot
	client *transport.Client
	// actionInBody: the homeserver wants a delayed event's action in the body and not in the path, see UpdateDelayed.
	actionInBody atomic.Bool
}

// once returns a client for requests that are made once, whose answers are short, and that are not logged. The caller of a request
// decides whether to repeat it, and a path may hold a delay id, which is a secret.
func (h *matrix) once() *mautrix.Client {
	c := h.bot.Client()
	return &mautrix.Client{
		HomeserverURL: c.HomeserverURL, UserID: c.UserID, DeviceID: c.DeviceID, AccessToken: c.AccessToken, UserAgent: c.UserAgent,
		Client: c.Client, ResponseSizeLimit: transport.MaxAnswer, IgnoreRateLimit: true, Log: zerolog.Nop(),
	}
}

// do makes a request that mautrix has no method for, and returns its JSON answer.
func (h *matrix) do(ctx context.Context, method string, path []string, body any) (json.RawMessage, error) {
	parts := make([]any, len(path))
	for i, part := range path {
		parts[i] = part
	}
	client := h.once()
	data, err := client.MakeFullRequest(ctx, mautrix.FullRequest{Method: method, URL: client.BuildClientURL(parts...), RequestJSON: body})
	if err != nil {
		return nil, matrixerror.FromMautrix(err)
	}
	return data, nil
}

func (h *matrix) Self() bot.Device { return bot.Device{User: h.bot.UserID(), ID: h.bot.DeviceID()} }

func (h *matrix) Delayed(ctx context.Context) (bool, error) {
	data, err := h.do(ctx, http.MethodGet, []string{"versions"}, nil)
	if err != nil {
		return false, fmt.Errorf("read versions: %w", err)
	}
	return parseVersions(data), nil
}

// parseVersions says whether the answer of /versions has the feature of delayed events.
func parseVersions(data []byte) (delayed bool) {
	o, _ := strictjson.Parse(data)
	features, _ := o.Object("unstable_features")
	return string(features[unstable.Delayed]) == "true"
}

func (h *matrix) Transport(ctx context.Context) (string, error) {
	data, err := h.do(ctx, http.MethodGet, unstable.TransportsPath(), nil)
	if err != nil {
		return "", fmt.Errorf("read transports: %w", err)
	}
	return transport.ParseTransports(data), nil
}

func (h *matrix) WellKnown(ctx context.Context) (string, error) {
	return h.client.WellKnown(ctx, h.bot.ServerName())
}

func (h *matrix) SendState(ctx context.Context, room id.RoomID, key string, content any) (id.EventID, error) {
	answer, err := h.once().SendStateEvent(ctx, room, typeMember, key, content)
	if err != nil {
		return "", fmt.Errorf("send call membership: %w", matrixerror.FromMautrix(err))
	}
	return answer.EventID, nil
}

func (h *matrix) Schedule(ctx context.Context, room id.RoomID, key string, delay time.Duration) (string, error) {
	answer, err := h.once().SendStateEvent(ctx, room, typeMember, key, struct{}{}, mautrix.ReqSendEvent{UnstableDelay: delay})
	if err != nil {
		return "", fmt.Errorf("schedule delayed leave: %w", matrixerror.FromMautrix(err))
	}
	if answer.UnstableDelayID == "" {
		// The homeserver does not know the parameter and has sent the empty membership at once.
		return "", fmt.Errorf("schedule delayed leave: %w", &matrixerror.Error{Status: http.StatusNotImplemented})
	}
	return string(answer.UnstableDelayID), nil
}

// UpdateDelayed first uses the path of MSC4140's newest text, which ends in the action. A homeserver that does not know it gets the
// older form, which has the action in the body.
func (h *matrix) UpdateDelayed(ctx context.Context, delayID, action string) error {
	if !h.actionInBody.Load() {
		_, err := h.do(ctx, http.MethodPost, append(unstable.DelayedPath(), delayID, action), nil)
		if !matrixerror.IsUnsupported(err) {
			return wrapDelayed(action, err)
		}
	}
	_, err := h.once().UpdateDelayedEvent(ctx, &mautrix.ReqUpdateDelayedEvent{DelayID: id.DelayID(delayID), Action: event.DelayAction(action)})
	if err == nil {
		h.actionInBody.Store(true)
	}
	return wrapDelayed(action, matrixerror.FromMautrix(err))
}

func wrapDelayed(action string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s delayed leave: %w", action, err)
}

func (h *matrix) State(ctx context.Context, room id.RoomID, key string) (content json.RawMessage, err error) {
	if err = h.once().StateEvent(ctx, room, typeMember, key, &content); err != nil {
		return nil, fmt.Errorf("read call membership: %w", matrixerror.FromMautrix(err))
	}
	return content, nil
}

func (h *matrix) OpenID(ctx context.Context) (json.RawMessage, error) {
	token, err := h.once().RequestOpenIDToken(ctx)
	if err != nil {
		return nil, fmt.Errorf("request OpenID token: %w", matrixerror.FromMautrix(err))
	}
	data, err := json.Marshal(token)
	if err != nil {
		return nil, fmt.Errorf("request OpenID token: %w", err)
	}
	return data, nil
}

func (h *matrix) SFUToken(ctx context.Context, room id.RoomID) (service, sfu, jwt string, err error) {
	data, err := h.do(ctx, http.MethodPost, unstable.SFUTokenPath(), map[string]id.RoomID{"room_id": room})
	if err == nil {
		service, sfu, jwt, err = transport.ParseSFUToken(data)
	}
	if err != nil {
		return "", "", "", fmt.Errorf("get token of our homeserver: %w", err)
	}
	return service, sfu, jwt, nil
}

func (h *matrix) SendKeys(ctx context.Context, content map[bot.Device]any) map[bot.Device]error {
	return h.bot.SendToDevice(ctx, typeKeys, content)
}

func (h *matrix) Encrypted(ctx context.Context, room id.RoomID) (bool, error) {
	return h.bot.Encrypted(ctx, room)
}

func (h *matrix) Send(ctx context.Context, room id.RoomID, t event.Type, content any) (id.EventID, error) {
	sent, err := h.bot.Send(ctx, room, t, content)
	var failed mautrix.HTTPError
	if errors.As(err, &failed) {
		return "", fmt.Errorf("send %s: %w", t.Type, matrixerror.FromMautrix(failed))
	}
	return sent, err
}

package rtc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
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
	KeepDelayed(ctx context.Context, room id.RoomID, delayID string) error
	DropDelayed(ctx context.Context, delayID string) error
	KeptDelayed(ctx context.Context, room id.RoomID) ([]string, error)
}

var _ Bot = (*bot.Bot)(nil)

// homeserver is the seam between the state machines and the homeserver. Refusals are ReplyErrors.
type homeserver interface {
	// Delayed says whether the server knows delayed events (MSC4140).
	Delayed(ctx context.Context) (bool, error)
	// Transport is the server's own MatrixRTC transport, "" for none. WellKnown is the same from the file beside it.
	Transport(ctx context.Context) (string, error)
	WellKnown(ctx context.Context) (string, error)
	// SendState sends a membership, Schedule an empty one that the server sends by itself after the delay.
	SendState(ctx context.Context, room id.RoomID, key string, content any) (id.EventID, error)
	Schedule(ctx context.Context, room id.RoomID, key string, delay time.Duration) (delayID string, err error)
	// UpdateDelayed restarts, sends or cancels a delayed event.
	UpdateDelayed(ctx context.Context, delayID, action string) error
	// State reads a membership.
	State(ctx context.Context, room id.RoomID, key string) (json.RawMessage, error)
	// OpenID fetches a fresh token, to be passed on as it is.
	OpenID(ctx context.Context) (json.RawMessage, error)
	// SendKeys sends media keys, Olm-encrypted; it returns who did not get one.
	SendKeys(ctx context.Context, content map[bot.Device]any) map[bot.Device]error
	// Send sends an event to a room, encrypted when the room is.
	Send(ctx context.Context, room id.RoomID, t event.Type, content any) (id.EventID, error)
	Encrypted(ctx context.Context, room id.RoomID) (bool, error)
	// KeepDelayed remembers a delayed event beyond the end of the program, until DropDelayed; KeptDelayed lists those of a room.
	KeepDelayed(ctx context.Context, room id.RoomID, delayID string) error
	DropDelayed(ctx context.Context, delayID string) error
	KeptDelayed(ctx context.Context, room id.RoomID) ([]string, error)
}

// matrix is the homeserver of a bot.
type matrix struct {
	bot Bot
	web *web
	// bodyForm: the server takes a delayed event's action in the body, not in the path.
	bodyForm atomic.Bool
}

// request does one request, once, and reads a capped JSON answer. Its address may hold a secret, so that it is not logged.
func (h *matrix) request(ctx context.Context, method, url string, body any) (json.RawMessage, error) {
	silent := zerolog.Nop()
	data, response, err := h.bot.Client().MakeFullRequestWithResp(ctx, mautrix.FullRequest{
		Method: method, URL: url, RequestJSON: body, MaxAttempts: 1, SensitiveContent: true, ResponseSizeLimit: maxAnswer, Logger: &silent,
	})
	if err == nil {
		return data, nil
	}
	if response != nil && (response.StatusCode < 200 || response.StatusCode > 299) {
		return nil, newReply(response, data)
	}
	var failed mautrix.HTTPError
	if errors.As(err, &failed) && failed.WrappedError != nil {
		err = withoutURL(failed.WrappedError)
	}
	return nil, err
}

func (h *matrix) url(path ...any) string { return h.bot.Client().BuildClientURL(path...) }

func (h *matrix) Delayed(ctx context.Context) (bool, error) {
	data, err := h.request(ctx, http.MethodGet, h.url("versions"), nil)
	if err != nil {
		return false, fmt.Errorf("read versions: %w", err)
	}
	return parseVersions(data), nil
}

// parseVersions says whether the answer of /versions has the feature of delayed events.
func parseVersions(data []byte) (delayed bool) {
	o, _ := parseObject(data)
	features, _ := o.object("unstable_features")
	return string(features[unstable.Delayed]) == "true"
}

func (h *matrix) Transport(ctx context.Context) (string, error) {
	data, err := h.request(ctx, http.MethodGet, h.url(pathTransports...), nil)
	if err != nil {
		return "", fmt.Errorf("read transports: %w", err)
	}
	return parseTransports(data), nil
}

func (h *matrix) WellKnown(ctx context.Context) (string, error) {
	return h.web.WellKnown(ctx, h.bot.ServerName())
}

func (h *matrix) SendState(ctx context.Context, room id.RoomID, key string, content any) (id.EventID, error) {
	data, err := h.request(ctx, http.MethodPut, h.url("v3", "rooms", room, "state", typeMember.Type, key), content)
	if err != nil {
		return "", fmt.Errorf("send call membership: %w", err)
	}
	return id.EventID(answerID(data, "event_id")), nil
}

func (h *matrix) Schedule(ctx context.Context, room id.RoomID, key string, delay time.Duration) (string, error) {
	url := h.bot.Client().BuildURLWithQuery(mautrix.ClientURLPath{"v3", "rooms", room, "state", typeMember.Type, key},
		map[string]string{unstable.Delay: strconv.FormatInt(delay.Milliseconds(), 10)})
	data, err := h.request(ctx, http.MethodPut, url, struct{}{})
	if err != nil {
		return "", fmt.Errorf("schedule delayed leave: %w", err)
	}
	delayID := answerID(data, "delay_id")
	if delayID == "" {
		// The server did not understand and has sent the empty membership at once.
		return "", fmt.Errorf("schedule delayed leave: %w", &ReplyError{Status: http.StatusNotImplemented})
	}
	return delayID, nil
}

// answerID reads one id out of an answer.
func answerID(data []byte, key string) string {
	o, _ := parseObject(data)
	value, _ := o.text(key, maxName)
	return value
}

func (h *matrix) UpdateDelayed(ctx context.Context, delayID, action string) error {
	if !h.bodyForm.Load() {
		_, err := h.request(ctx, http.MethodPost, h.url(append(pathDelayed[:len(pathDelayed):len(pathDelayed)], delayID, action)...), struct{}{})
		if !unsupported(err) {
			return wrapDelayed(action, err)
		}
	}
	_, err := h.request(ctx, http.MethodPost, h.url(append(pathDelayed[:len(pathDelayed):len(pathDelayed)], delayID)...),
		map[string]string{"action": action})
	if err == nil {
		h.bodyForm.Store(true)
	}
	return wrapDelayed(action, err)
}

func wrapDelayed(action string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s delayed leave: %w", action, err)
}

func (h *matrix) State(ctx context.Context, room id.RoomID, key string) (json.RawMessage, error) {
	data, err := h.request(ctx, http.MethodGet, h.url("v3", "rooms", room, "state", typeMember.Type, key), nil)
	if err != nil {
		return nil, fmt.Errorf("read call membership: %w", err)
	}
	return data, nil
}

func (h *matrix) OpenID(ctx context.Context) (json.RawMessage, error) {
	data, err := h.request(ctx, http.MethodPost, h.url("v3", "user", h.bot.UserID(), "openid", "request_token"), struct{}{})
	if err != nil {
		return nil, fmt.Errorf("request OpenID token: %w", err)
	}
	if _, ok := parseObject(data); !ok {
		return nil, errors.New("request OpenID token: the answer is no JSON object")
	}
	return data, nil
}

func (h *matrix) SendKeys(ctx context.Context, content map[bot.Device]any) map[bot.Device]error {
	return h.bot.SendToDevice(ctx, typeKeys, content)
}

func (h *matrix) Encrypted(ctx context.Context, room id.RoomID) (bool, error) {
	return h.bot.Encrypted(ctx, room)
}

func (h *matrix) Send(ctx context.Context, room id.RoomID, t event.Type, content any) (id.EventID, error) {
	event, err := h.bot.Send(ctx, room, t, content)
	var refused mautrix.HTTPError
	if err != nil && errors.As(err, &refused) {
		switch {
		case refused.Response != nil:
			return "", fmt.Errorf("send %s: %w", t.Type, newReply(refused.Response, []byte(refused.ResponseBody)))
		case refused.WrappedError != nil:
			return "", fmt.Errorf("send %s: %w", t.Type, withoutURL(refused.WrappedError))
		}
	}
	return event, err
}

func (h *matrix) KeepDelayed(ctx context.Context, room id.RoomID, delayID string) error {
	return h.bot.KeepDelayed(ctx, room, delayID)
}

func (h *matrix) DropDelayed(ctx context.Context, delayID string) error {
	return h.bot.DropDelayed(ctx, delayID)
}

func (h *matrix) KeptDelayed(ctx context.Context, room id.RoomID) ([]string, error) {
	return h.bot.KeptDelayed(ctx, room)
}

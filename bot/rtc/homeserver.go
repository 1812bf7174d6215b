package rtc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/matrixerror"
	"multifactorymodel.org/ewindow/bot/request"
	"multifactorymodel.org/ewindow/bot/rtc/membership"
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
	SignJSON(object any) (string, error)
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
	// SignJSON signs with our device's key.
	SignJSON(object any) (string, error)
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
	bot      Bot
	client   *transport.Client
	requests *request.Client
}

func (h *matrix) Self() bot.Device { return bot.Device{User: h.bot.UserID(), ID: h.bot.DeviceID()} }

func (h *matrix) Delayed(ctx context.Context) (bool, error) {
	delayed, err := h.requests.HasDelayed(ctx)
	if err != nil {
		return false, fmt.Errorf("read versions: %w", err)
	}
	return delayed, nil
}

func (h *matrix) Transport(ctx context.Context) (string, error) {
	data, err := h.requests.Do(ctx, http.MethodGet, unstable.TransportsPath(), nil)
	if err != nil {
		return "", fmt.Errorf("read transports: %w", err)
	}
	return transport.ParseTransports(data), nil
}

func (h *matrix) WellKnown(ctx context.Context) (string, error) {
	return h.client.WellKnown(ctx, h.bot.ServerName())
}

func (h *matrix) SendState(ctx context.Context, room id.RoomID, key string, content any) (id.EventID, error) {
	answer, err := h.requests.Once().SendStateEvent(ctx, room, typeMember, key, content)
	if err != nil {
		return "", fmt.Errorf("send call membership: %w", matrixerror.FromMautrix(err))
	}
	return answer.EventID, nil
}

func (h *matrix) Schedule(ctx context.Context, room id.RoomID, key string, delay time.Duration) (string, error) {
	delayID, err := h.requests.ScheduleState(ctx, room, typeMember, key, struct{}{}, delay)
	if err != nil {
		return "", fmt.Errorf("schedule delayed leave: %w", err)
	}
	return delayID, nil
}

func (h *matrix) UpdateDelayed(ctx context.Context, delayID, action string) error {
	if err := h.requests.UpdateDelayed(ctx, delayID, action); err != nil {
		return fmt.Errorf("%s delayed leave: %w", action, err)
	}
	return nil
}

func (h *matrix) State(ctx context.Context, room id.RoomID, key string) (content json.RawMessage, err error) {
	if err = h.requests.Once().StateEvent(ctx, room, typeMember, key, &content); err != nil {
		return nil, fmt.Errorf("read call membership: %w", matrixerror.FromMautrix(err))
	}
	return content, nil
}

func (h *matrix) OpenID(ctx context.Context) (json.RawMessage, error) {
	token, err := h.requests.Once().RequestOpenIDToken(ctx)
	if err != nil {
		return nil, fmt.Errorf("request OpenID token: %w", matrixerror.FromMautrix(err))
	}
	data, err := json.Marshal(token)
	if err != nil {
		return nil, fmt.Errorf("request OpenID token: %w", err)
	}
	return data, nil
}

func (h *matrix) SignJSON(object any) (string, error) { return h.bot.SignJSON(object) }

func (h *matrix) SFUToken(ctx context.Context, room id.RoomID) (service, sfu, jwt string, err error) {
	data, err := h.requests.Do(ctx, http.MethodPost, unstable.SFUTokenPath(), map[string]id.RoomID{"room_id": room})
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

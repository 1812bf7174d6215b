package homeserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"go.mau.fi/util/exhttp"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/matrixerror"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// actionLimit is the longest time for a request about a delayed event. It includes sending the event.
const actionLimit = upstreamLimit + 5*time.Second

// maxQuery is the longest that the other query parameters of a delayed event may be, in bytes.
const maxQuery = 1 << 10

// serveSchedule schedules an event that has to be sent later (MSC4140). Both forms are known: with the delay in the body, and as a parameter.
func (f *Front) serveSchedule(w http.ResponseWriter, r *http.Request, t target, query url.Values) {
	ctx, cancel := context.WithTimeout(r.Context(), actionLimit)
	defer cancel()
	who, err := f.authenticate(r)
	if err != nil {
		f.fail(w, r, err)
		return
	}
	var delay time.Duration
	if t.kind != targetSchedule {
		if delay, err = parseDelay(query[unstable.Delay]); err != nil {
			f.fail(w, r, err)
			return
		}
	}
	content, err := readBody(w, r, maxEvent)
	if err == nil {
		content, err = parseContent(content)
	}
	if err == nil && t.kind == targetSchedule {
		delay, t.stateKey, content, err = parseScheduled(content)
	}
	if err != nil {
		f.fail(w, r, err)
		return
	}
	query.Del(unstable.Delay)
	query.Del("access_token")
	d := delayed{
		user: who.user, device: who.device, token: who.token,
		room: id.RoomID(t.room), eventType: t.eventType, stateKey: t.stateKey, txn: t.txn,
		query: query.Encode(), content: content, delay: delay,
	}
	if len(d.query) > maxQuery {
		f.answer(w, mautrix.MInvalidParam.WithMessage("The query is too long"))
		return
	}
	delayID, err := f.schedule.schedule(ctx, d)
	if err != nil {
		f.fail(w, r, err)
		return
	}
	exhttp.WriteJSONResponse(w, http.StatusOK, map[string]string{"delay_id": delayID})
}

// serveDelayed restarts, sends or cancels a delayed event. The delay id is the only authorisation (MSC4140).
func (f *Front) serveDelayed(w http.ResponseWriter, r *http.Request, t target) {
	ctx, cancel := context.WithTimeout(r.Context(), actionLimit)
	defer cancel()
	action := t.action
	if action == "" {
		text, err := readBody(w, r, 4<<10)
		if err == nil {
			action, err = parseAction(text)
		}
		if err != nil {
			f.fail(w, r, err)
			return
		}
	}
	if err := f.schedule.act(ctx, t.delayID, action); err != nil {
		f.fail(w, r, err)
		return
	}
	exhttp.WriteEmptyJSONResponse(w, http.StatusOK)
}

// listed is one scheduled event in the answer to its user.
type listed struct {
	DelayID      string          `json:"delay_id"`
	RoomID       id.RoomID       `json:"room_id"`
	Type         string          `json:"type"`
	StateKey     *string         `json:"state_key,omitempty"`
	Delay        int64           `json:"delay"`         // ms
	RunningSince int64           `json:"running_since"` // ms since 1970
	Content      json.RawMessage `json:"content"`
}

// serveDelayedList lists the events that the user has scheduled, the next one first.
func (f *Front) serveDelayedList(w http.ResponseWriter, r *http.Request) {
	who, err := f.authenticate(r)
	if err != nil {
		f.fail(w, r, err)
		return
	}
	list, err := f.stored.of(r.Context(), who.user)
	if err != nil {
		f.log.Error().Err(err).Msg("The delayed events can't be listed")
		f.answer(w, mautrix.MUnknown.WithMessage("The delayed events can't be read"))
		return
	}
	slices.SortFunc(list, compareDue)
	answer := make([]listed, 0, len(list))
	for _, d := range list {
		answer = append(answer, listed{d.id, d.room, d.eventType, d.stateKey, d.delay.Milliseconds(), d.since.UnixMilli(), d.content})
	}
	exhttp.WriteJSONResponse(w, http.StatusOK, map[string]any{"delayed_events": answer})
}

// parseDelay reads the delay, in milliseconds.
func parseDelay(values []string) (time.Duration, error) {
	if len(values) != 1 {
		return 0, mautrix.MInvalidParam.WithMessage("One delay is needed")
	}
	ms, err := strconv.ParseInt(values[0], 10, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange), ms <= 0:
		return 0, mautrix.MInvalidParam.WithMessage("The delay must be a positive number of milliseconds")
	case err != nil, ms > maxDelay.Milliseconds():
		return 0, mautrix.MUnknown.WithMessage("The delay is longer than this server allows").WithStatus(http.StatusBadRequest).
			WithExtraField(unstable.DelayedErrcode, unstable.CodeDelayTooLong).WithExtraField(unstable.DelayedMaxDelay, maxDelay.Milliseconds())
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// parseScheduled reads the body of PUT …/delayed_event. stateKey is nil if the event is none of the room's state.
func parseScheduled(body []byte) (delay time.Duration, stateKey *string, content []byte, err error) {
	var scheduled struct {
		DelayMS  json.Number     `json:"delay_ms"`
		StateKey *string         `json:"state_key"`
		Content  json.RawMessage `json:"content"`
	}
	if err := json.Unmarshal(body, &scheduled); err != nil {
		return 0, nil, nil, mautrix.MBadJSON.WithMessage("The body is not that of a delayed event")
	}
	if delay, err = parseDelay([]string{scheduled.DelayMS.String()}); err != nil {
		return 0, nil, nil, err
	}
	if scheduled.StateKey != nil && len(*scheduled.StateKey) > maxIdentifier {
		return 0, nil, nil, mautrix.MInvalidParam.WithMessage("The state key is too long")
	}
	if len(scheduled.Content) == 0 || scheduled.Content[0] != '{' {
		return 0, nil, nil, mautrix.MBadJSON.WithMessage("The content is no JSON object")
	}
	return delay, scheduled.StateKey, scheduled.Content, nil
}

// parseAction reads the body in the older form of MSC4140, where the action is not in the path.
func parseAction(text []byte) (string, error) {
	var body struct {
		Action string `json:"action"`
	}
	if err := json.Unmarshal(text, &body); err != nil {
		return "", mautrix.MNotJSON.WithMessage("The body is no valid JSON object")
	}
	if !slices.Contains([]string{unstable.DelayRestart, unstable.DelaySend, unstable.DelayCancel}, body.Action) {
		return "", mautrix.MInvalidParam.WithMessage("The action must be restart, send or cancel")
	}
	return body.Action, nil
}

// bodyLimit bounds the time in which a client must send a body that we read ourselves.
const bodyLimit = 20 * time.Second

// readBody reads a request's body of at most limit bytes.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyLimit))
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, errTooLarge
	case err != nil:
		return nil, mautrix.MUnknown.WithMessage("The body did not arrive").WithStatus(http.StatusBadRequest)
	}
	_ = control.SetReadDeadline(time.Time{}) // otherwise net/http would end the request when the deadline passes
	return text, nil
}

// parseContent checks the content of an event and removes white space.
func parseContent(text []byte) ([]byte, error) {
	var compact bytes.Buffer
	if !utf8.Valid(text) || json.Compact(&compact, text) != nil {
		return nil, mautrix.MNotJSON.WithMessage("The body is no valid JSON")
	}
	if compact.Bytes()[0] != '{' {
		return nil, mautrix.MBadJSON.WithMessage("The body is no JSON object")
	}
	return compact.Bytes(), nil
}

// sendDelayed sends an event as the user who scheduled it. The delay id is the transaction id, so that an event is not sent twice when an answer
// was lost. The error is of type refused when another attempt would fail, too, and of type later when the homeserver asks us to wait.
func (f *Front) sendDelayed(ctx context.Context, d *delayed) error {
	path := "/_matrix/client/v3/rooms/" + url.PathEscape(d.room.String())
	if d.stateKey != nil {
		path += "/state/" + url.PathEscape(d.eventType) + "/" + url.PathEscape(*d.stateKey)
	} else {
		path += "/send/" + url.PathEscape(d.eventType) + "/" + url.PathEscape(d.id)
	}
	if d.query != "" {
		path += "?" + d.query
	}
	err := exchange(ctx, f.client, http.MethodPut, f.upstream.String()+path, d.token, json.RawMessage(d.content), nil)
	var answered mautrix.RespError
	if !errors.As(err, &answered) {
		return matrixerror.WithoutURL(err) // its path may hold a delay id
	}
	switch {
	case answered.StatusCode == http.StatusTooManyRequests:
		return later{answered, retryAfter(answered)}
	case answered.StatusCode/100 == 4 && answered.StatusCode != http.StatusRequestTimeout:
		return refused{answered}
	}
	return answered
}

// retryAfter is how long a rate limit asks us to wait.
func retryAfter(e mautrix.RespError) time.Duration {
	ms, _ := e.ExtraData["retry_after_ms"].(float64)
	if !(ms >= 0 && ms < float64(maxDelay.Milliseconds())) {
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

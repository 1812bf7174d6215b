package rtc

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/unstable"
)

var (
	// ErrUnencrypted: the room has no encryption, so its call would have none either. Switch the room's encryption on.
	ErrUnencrypted = errors.New("the room isn't encrypted")
	// ErrNoTransport: neither the homeserver nor the configuration names a focus. Set one up.
	ErrNoTransport = errors.New("no MatrixRTC focus is known: neither the homeserver nor the configuration names one")
	// ErrNotJoined: the bot isn't in the room (any more).
	ErrNotJoined = errors.New("not in the room")
	// ErrInCall: the room's call was entered already, or is still being left.
	ErrInCall = errors.New("already in this call")
	// ErrNotInCall: only who is in a room's call can ring others. Join it first.
	ErrNotInCall = errors.New("not in this call")
	// ErrClosed: the manager has ended.
	ErrClosed = errors.New("the manager of calls has ended")
)

// PowerLevelError says that the room does not let the bot be in its call. Someone with power in the room must change that.
type PowerLevelError struct{ Room id.RoomID }

// Error implements error.
func (e *PowerLevelError) Error() string {
	return fmt.Sprintf("send call membership in %s: not allowed: in the room's m.room.power_levels set events[%q] to 0, "+
		"or to the power level that this user has", e.Room, typeMember.Type)
}

// ReplyError is a homeserver's or an authorisation service's refusal. It never holds the text that came with it.
type ReplyError struct {
	Status     int           // HTTP status
	Code       string        // Matrix errcode, empty when the answer wasn't Matrix's
	RetryAfter time.Duration // how long the server asks to wait, 0: it doesn't say
	MaxDelay   time.Duration // longest delay of a delayed event, 0: it doesn't say (MSC4140)
}

// Error implements error.
func (e *ReplyError) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("HTTP status %d", e.Status)
	}
	return fmt.Sprintf("HTTP status %d, %s", e.Status, e.Code)
}

// errorCode lets an errcode through that may stand in a log.
func errorCode(code string) string {
	if len(code) > 64 || strings.ContainsFunc(code, func(r rune) bool {
		return r != '_' && r != '.' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return ""
	}
	return code
}

// reply returns the refusal inside err, or nil for anything else: no network, a time-out, a broken answer.
func reply(err error) *ReplyError {
	var r *ReplyError
	errors.As(err, &r)
	return r
}

// forbidden: the server understood and does not allow it.
func forbidden(err error) bool {
	r := reply(err)
	return r != nil && r.Status == http.StatusForbidden
}

// notFound: the server knows the request, and there is no such thing.
func notFound(err error) bool {
	r := reply(err)
	return r != nil && r.Code == "M_NOT_FOUND"
}

// unsupported: the server, or a proxy before it, doesn't know the request at all.
func unsupported(err error) bool {
	r := reply(err)
	if r == nil {
		return false
	}
	switch r.Status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return r.Code == "" || r.Code == "M_UNRECOGNIZED"
	}
	return r.Code == "M_UNRECOGNIZED"
}

// unreachable: there was no answer, or only that of a gateway.
func unreachable(err error) bool {
	r := reply(err)
	return r == nil || r.Status == http.StatusBadGateway || r.Status == http.StatusServiceUnavailable || r.Status == http.StatusGatewayTimeout
}

// hopeless: the same request will be refused again.
func hopeless(err error) bool {
	r := reply(err)
	if r == nil {
		return false
	}
	switch r.Status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusRequestEntityTooLarge:
		return r.Code != "M_LIMIT_EXCEEDED"
	}
	return false
}

// tooLong: the delay of a delayed event is longer than the server likes (newer Synapse says M_FORBIDDEN).
func tooLong(err error) bool {
	r := reply(err)
	return r != nil && (r.MaxDelay > 0 || r.Code == unstable.CodeDelayTooLong || forbidden(err))
}

// Package matrixerror is the error of a homeserver or a MatrixRTC authorisation service that refused a request, and what follows
// from it: whether to try again, when, or whether the server does not know the request at all.
//
// mautrix has its own error for answers of homeservers, HTTPError. It is not used for calls because its text repeats what the server said and
// its request's path, which holds a delay id: anybody who knows that id can remove us from a call (MSC4140). An [Error] has neither the text nor
// the path. It also carries what MSC4140 adds to an answer.
//
// The package has no state. Its functions may be called from any goroutine.
package matrixerror

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.mau.fi/util/retryafter"
	"maunium.net/go/mautrix"

	"multifactorymodel.org/ewindow/bot/strictjson"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// Limits on what a server may ask for.
const (
	// maxRetryAfter is the longest time that a server can make us wait.
	maxRetryAfter = 5 * time.Minute
	maxDelay      = 24 * time.Hour
)

// Error is a refusal. It never holds the text that came with it.
type Error struct {
	Status     int           // HTTP status
	Code       string        // Matrix errcode; empty when the answer was not Matrix's
	RetryAfter time.Duration // how long the server asks us to wait; 0: it does not say
	MaxDelay   time.Duration // longest delay of a delayed event; 0: it does not say (MSC4140)
}

// Error implements error.
func (e *Error) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("HTTP status %d", e.Status)
	}
	return fmt.Sprintf("HTTP status %d, %s", e.Status, e.Code)
}

// New makes the error of an answer that is a refusal.
func New(response *http.Response, body []byte) *Error {
	e := &Error{Status: response.StatusCode}
	e.wait(retryafter.Parse(response.Header.Get("Retry-After"), 0))
	o, ok := strictjson.Parse(body)
	if !ok {
		return e
	}
	code, _ := o.Text("errcode", strictjson.MaxName)
	e.Code = printableCode(code)
	if ms, ok := o.Integer("retry_after_ms", strictjson.MaxInteger); ok && e.RetryAfter == 0 {
		e.wait(time.Duration(min(ms, maxRetryAfter.Milliseconds())) * time.Millisecond)
	}
	if delayed, _ := o.Text(unstable.DelayedErrcode, strictjson.MaxName); delayed == unstable.CodeDelayTooLong {
		e.Code = unstable.CodeDelayTooLong
	}
	if ms, ok := o.Integer(unstable.DelayedMaxDelay, strictjson.MaxInteger); ok {
		e.MaxDelay = time.Duration(min(ms, maxDelay.Milliseconds())) * time.Millisecond
	}
	return e
}

func (e *Error) wait(d time.Duration) {
	if d > 0 {
		e.RetryAfter = min(d, maxRetryAfter)
	}
}

// printableCode returns an errcode that may be written to a log, or nothing.
func printableCode(code string) string {
	if len(code) > 64 || strings.ContainsFunc(code, func(r rune) bool {
		return r != '_' && r != '.' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return ""
	}
	return code
}

// FromMautrix turns an error of mautrix into one that holds no secret: an [Error] for a refusal, the bare cause for anything else.
func FromMautrix(err error) error {
	var failed mautrix.HTTPError
	if !errors.As(err, &failed) {
		return err
	}
	switch {
	case failed.Response != nil && (failed.Response.StatusCode < 200 || failed.Response.StatusCode > 299):
		body, _ := json.Marshal(failed.RespError) // RespError was read from JSON; for an answer without JSON it is nil, which becomes null
		return New(failed.Response, body)
	case failed.WrappedError != nil:
		return WithoutURL(failed.WrappedError)
	}
	return err
}

// WithoutURL takes the URL out of an error of net/http. The URL may hold a secret.
func WithoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// Of returns the refusal inside err. It returns nil for anything else: no network, a time-out, a broken answer.
func Of(err error) *Error {
	var e *Error
	errors.As(err, &e)
	return e
}

// IsForbidden says that the server understood the request and does not allow it.
func IsForbidden(err error) bool {
	e := Of(err)
	return e != nil && e.Status == http.StatusForbidden
}

// IsNotFound says that the server knows the request, but that the thing it names does not exist.
func IsNotFound(err error) bool {
	e := Of(err)
	return e != nil && e.Code == "M_NOT_FOUND"
}

// IsUnsupported says that the server, or a proxy before it, does not know the request at all.
func IsUnsupported(err error) bool {
	e := Of(err)
	if e == nil {
		return false
	}
	switch e.Status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return e.Code == "" || e.Code == "M_UNRECOGNIZED"
	}
	return e.Code == "M_UNRECOGNIZED"
}

// IsUnreachable says that there was no answer, or only that of a gateway.
func IsUnreachable(err error) bool {
	e := Of(err)
	return e == nil || e.Status == http.StatusBadGateway || e.Status == http.StatusServiceUnavailable || e.Status == http.StatusGatewayTimeout
}

// IsRateLimited says that the server wants us to ask less often.
func IsRateLimited(err error) bool {
	e := Of(err)
	return e != nil && e.Status == http.StatusTooManyRequests
}

// IsPermanent says that the same request will be refused again.
func IsPermanent(err error) bool {
	e := Of(err)
	if e == nil {
		return false
	}
	switch e.Status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusRequestEntityTooLarge:
		return e.Code != "M_LIMIT_EXCEEDED"
	}
	return false
}

// IsDelayTooLong says that the server allows only a shorter delay for a delayed event (MSC4140). Newer Synapse answers M_FORBIDDEN.
func IsDelayTooLong(err error) bool {
	e := Of(err)
	return e != nil && (e.MaxDelay > 0 || e.Code == unstable.CodeDelayTooLong || IsForbidden(err))
}

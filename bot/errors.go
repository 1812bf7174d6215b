package bot

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"maunium.net/go/mautrix"
)

// Why a device did not get a message: see [Bot.SendToDevice].
var (
	// ErrUnknownDevice says that its user's homeserver does not know the device. It may be new: try again.
	ErrUnknownDevice = errors.New("the device is not known")
	// ErrUntrusted says that the device's owner has not cross-signed it, or that the owner's identity has changed since it was first seen.
	// The device gets nothing until that changes.
	ErrUntrusted = errors.New("the device is not trusted")
	// ErrNewIdentity is an ErrUntrusted: the owner's identity is not the one that was first seen, see [Bot.ConfirmIdentity].
	ErrNewIdentity = fmt.Errorf("%w: its owner's identity has changed", ErrUntrusted)
	// ErrNoOneTimeKey says that there is no Olm session with the device, and that its homeserver had no key to begin one with: try again.
	ErrNoOneTimeKey = errors.New("the device has no one-time keys left, or its homeserver can't be reached")
)

// errNotStarted is returned by methods that need Start to have logged in.
var errNotStarted = errors.New("the bot has not been started")

// Why Start and Run can't go on. Their errors are sentences for the person who runs the window. These values tell them apart.
var (
	// ErrCopied says that the data folder is a copy of one that was in use after the copy was made, or that such a copy is in use.
	ErrCopied = errors.New("a copy of this data folder is, or was, in use")
	// ErrPassword says that the homeserver refused the user name or the password.
	ErrPassword = errors.New("wrong user name or password")
	// ErrMismatch says that the data folder belongs to another account than the configuration names.
	ErrMismatch = errors.New("the data folder belongs to another account")
	// ErrIdentity says that the account has a cross-signing identity and the data folder has no key for it.
	ErrIdentity = errors.New("the account's recovery key is missing")
	// ErrLoggedOut says that the homeserver ended the session while the bot ran. Starting again logs in again.
	ErrLoggedOut = errors.New("the homeserver has logged this device out")
)

// transient says whether trying again later may help: the homeserver can't be reached, is overloaded, or is being restarted behind its
// proxy.
func transient(err error) bool {
	if away(err) {
		return true
	}
	var answer mautrix.HTTPError
	if !errors.As(err, &answer) {
		return false
	}
	if answer.RespError == nil {
		return true // the answer of a proxy, or of something that is no Matrix homeserver
	}
	status := answer.Response.StatusCode
	return status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}

// away says whether there was no answer at all, or only one of a proxy whose homeserver is not running.
func away(err error) bool {
	var (
		request *url.Error
		answer  mautrix.HTTPError
	)
	if errors.As(err, &request) {
		return true
	}
	if !errors.As(err, &answer) || answer.Response == nil {
		return false
	}
	status := answer.Response.StatusCode
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// short is an error that may be logged: without the text that the server sent, and without the URL.
func short(err error) error {
	var answer mautrix.HTTPError
	if !errors.As(err, &answer) {
		return err
	}
	switch {
	case answer.RespError != nil && answer.Response != nil:
		return fmt.Errorf("%s (HTTP %d)", clip(answer.RespError.ErrCode, 100), answer.Response.StatusCode)
	case answer.WrappedError != nil:
		var request *url.Error
		if errors.As(answer.WrappedError, &request) {
			return request.Err
		}
		return answer.WrappedError
	case answer.Response != nil:
		return fmt.Errorf("HTTP %d", answer.Response.StatusCode)
	}
	return err
}

// clip returns the first n bytes of a string.
func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

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
	// ErrUnknownDevice says that its user's homeserver does not know the device. It may have only just appeared: try again.
	ErrUnknownDevice = errors.New("the device is not known")
	// ErrUntrusted says that the device's owner has not cross-signed it, or that the owner's identity is another one than at first.
	// It gets nothing until that changes.
	ErrUntrusted = errors.New("the device is not trusted")
	// ErrNoOneTimeKey says that there is no Olm session with the device, and that its homeserver had no key to begin one: try again.
	ErrNoOneTimeKey = errors.New("the device has no one-time keys left, or its homeserver can't be reached")
)

// errNotStarted is what methods return that need Start to have logged in.
var errNotStarted = errors.New("the bot has not been started")

// Why Start and Run can't go on. Their errors are sentences for the one who runs the window; these are for telling them apart.
var (
	// ErrCopied says that the data folder is a copy of one that was in use after the copy was made, or that such a copy is in use.
	ErrCopied = errors.New("a copy of this data folder is, or was, in use")
	// ErrPassword says that the homeserver refused the user name or the password.
	ErrPassword = errors.New("wrong user name or password")
	// ErrMismatch says that the data folder belongs to another account than the configuration names.
	ErrMismatch = errors.New("the data folder belongs to another account")
	// ErrIdentity says that the account has a cross-signing identity that the data folder holds no key for.
	ErrIdentity = errors.New("the account's recovery key is missing")
	// ErrLoggedOut says that the homeserver ended the session while the bot ran. Starting again logs in again.
	ErrLoggedOut = errors.New("the homeserver has logged this device out")
)

// transient says whether asking again later may help: the homeserver can't be reached, is overloaded, or is being restarted behind its
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
		return true // a proxy's page, or what is no Matrix homeserver at all
	}
	status := answer.Response.StatusCode
	return status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}

// away says whether no answer came at all, or one of a proxy whose homeserver does not run.
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

// short is an error as the log may hold it: without what the server sent along, and without addresses' queries.
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

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

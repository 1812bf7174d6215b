package rtc

import (
	"errors"

	"multifactorymodel.org/ewindow/bot/rtc/membership"
	"multifactorymodel.org/ewindow/bot/rtc/transport"
)

var (
	// ErrUnencrypted: the room has no encryption, so its call would have none either. Switch the room's encryption on.
	ErrUnencrypted = errors.New("the room isn't encrypted")
	// ErrNoTransport: neither the homeserver nor the configuration names a focus. Set one up.
	ErrNoTransport = transport.ErrNone
	// ErrNotJoined: the bot is not in the room, or has left it.
	ErrNotJoined = membership.ErrNotJoined
	// ErrInCall: the room's call was entered already, or is still being left.
	ErrInCall = errors.New("already in this call")
	// ErrNotInCall: others can be rung only by somebody who is in the room's call. Join it first.
	ErrNotInCall = errors.New("not in this call")
	// ErrClosed: the manager has ended.
	ErrClosed = errors.New("the manager of calls has ended")
)

// PowerLevelError says that the room does not let the bot be in its call.
type PowerLevelError = membership.PowerLevelError

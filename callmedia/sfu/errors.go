package sfu

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/livekit/protocol/livekit"

	"multifactorymodel.org/ewindow/callmedia/peerconnection"
)

// ErrClosed is returned by the methods of a [Room] that has ended, and of its tracks.
var ErrClosed = errors.New("the room is closed")

// ErrBacklog is returned by [LocalLayer.WriteRTP] for the first packet of a frame when more waits than the line can take in time. The frame has to be
// dropped: what follows has to begin with a key frame.
var ErrBacklog = errors.New("too many packets wait")

// RefusedError is returned by [Connect] when the SFU answered and did not let us in.
type RefusedError struct {
	// Status is the HTTP status. 401: the token is not valid. 403: it does not permit this. 404: the room does not exist; its owner has not made
	// it yet, so try again later. 429 and 503: no capacity.
	Status int
	// Reason is the SFU's own text, shortened and without control characters.
	Reason string
}

// Error says what the SFU answered.
func (e *RefusedError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("the SFU refused the connection: %d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("the SFU refused the connection: %d %s", e.Status, e.Reason)
}

// LeaveError says why the SFU ended the connection.
type LeaveError struct {
	// Reason is DUPLICATE_IDENTITY when another connection took our identity.
	Reason livekit.DisconnectReason
	// Action is what the SFU wants us to do. That is left to the room's user.
	Action livekit.LeaveRequest_Action
}

// Error names the SFU's reason.
func (e *LeaveError) Error() string {
	return fmt.Sprintf("the SFU ended the connection: %s (%s)", e.Reason, e.Action)
}

// PublishError is returned when the SFU did not accept a track.
type PublishError struct {
	Reason  livekit.RequestResponse_Reason
	Message string
}

// Error names the SFU's reason.
func (e *PublishError) Error() string {
	return fmt.Sprintf("the SFU did not accept the track: %s %s", e.Reason, e.Message)
}

// quoted prepares an SFU's answer for an error. LiveKit repeats tokens that it refuses: all parts of the token are removed.
func quoted(text []byte, token string) string {
	s := strings.ReplaceAll(string(text), token, "…")
	for _, part := range strings.Split(token, ".") {
		if len(part) >= 8 {
			s = strings.ReplaceAll(s, part, "…")
		}
	}
	return peerconnection.Printable(s)
}

package homeserver

import (
	"errors"
	"net/url"
	"regexp"
	"strings"

	"multifactorymodel.org/ewindow/bot/unstable"
)

// targetKind is what the front does with a request.
type targetKind int

const (
	targetUnknown     targetKind = iota // refused
	targetPass                          // passed to the homeserver
	targetUpload                        // passed to the homeserver, and large
	targetPublicMedia                   // a file that anybody may ask for, without a token
	targetMedia                         // a file that users may ask for
	targetVersions                      // GET /versions
	targetTransports                    // GET …/rtc/transports (MSC4143)
	targetTURN                          // GET …/voip/turnServer
	targetSFUToken                      // POST …/sfu_token, see package unstable
	targetSend                          // PUT /rooms/{room}/send or state, delayed if the query says so (MSC4140)
	targetSchedule                      // PUT …/rooms/{room}/delayed_event/{type}/{txn} (MSC4140)
	targetDelayedList                   // GET …/delayed_events
	targetDelayed                       // POST …/delayed_events/{id}[/{action}]
)

// maxIdentifier is the longest room id, event type, state key and transaction id, in bytes.
const maxIdentifier = 255

var versionPattern = regexp.MustCompile(`^(r0|v[0-9]{1,2}|unstable)$`)

// target is what the path of a request means.
type target struct {
	kind            targetKind
	room, eventType string
	stateKey        *string // nil: not a state event
	txn             string
	server, media   string // of a file
	delayID         string
	action          string // "" : it is in the body
}

// path is the decoded parts of a URL's path.
type path []string

// parsePath splits an escaped path. It refuses paths that different servers read in different ways, because such a request could look
// harmless here and reach the homeserver's administration there.
func parsePath(escaped string) (path, error) {
	rest, ok := strings.CutPrefix(escaped, "/")
	if !ok {
		return nil, errors.New("the path has no slash in front")
	}
	parts := strings.Split(rest, "/")
	for i, part := range parts {
		decoded, err := url.PathUnescape(part)
		if err != nil {
			return nil, errors.New("the path is wrongly escaped")
		}
		for inner := range strings.FieldsFuncSeq(decoded, func(c rune) bool { return c == '/' || c == '\\' }) {
			if inner == "." || inner == ".." {
				return nil, errors.New("the path has dots for folders")
			}
		}
		parts[i] = decoded
	}
	return parts, nil
}

// target says what a path means.
func (p path) target() target {
	if len(p) < 3 || p[0] != "_matrix" {
		return target{}
	}
	rest := p[2:]
	switch {
	case p[1] == "media":
		return mediaTarget(rest)
	case p[1] != "client":
		return target{kind: targetPass}
	case len(rest) >= 3 && rest[1] == "media" && rest[2] == "upload":
		return target{kind: targetUpload}
	case len(rest) >= 5 && rest[0] == "v1" && rest[1] == "media" && (rest[2] == "download" || rest[2] == "thumbnail"):
		return target{kind: targetMedia, server: rest[3], media: rest[4]}
	case len(rest) == 1 && rest[0] == "versions":
		return target{kind: targetVersions}
	case rest.is(unstable.TransportsPath()...), rest.is("v1", "rtc", "transports"):
		return target{kind: targetTransports}
	case len(rest) == 3 && versionPattern.MatchString(rest[0]) && rest[1] == "voip" && rest[2] == "turnServer":
		return target{kind: targetTURN}
	case rest.is(unstable.SFUTokenPath()...):
		return target{kind: targetSFUToken}
	case len(rest) >= 3 && path(rest[:3]).is(unstable.DelayedPath()...):
		return delayedTarget(rest[3:])
	case len(rest) == 7 && rest.is(unstable.SchedulePath(rest[3], rest[5], rest[6])...):
		t := target{kind: targetSchedule, room: rest[3], eventType: rest[5], txn: rest[6]}
		if t.long() || t.eventType == "" || t.txn == "" || !strings.HasPrefix(t.room, "!") {
			return target{}
		}
		return t
	case len(rest) >= 5 && versionPattern.MatchString(rest[0]) && rest[1] == "rooms":
		return roomTarget(rest[2:])
	}
	return target{kind: targetPass}
}

// is says whether a path has exactly these parts.
func (p path) is(parts ...string) bool {
	if len(p) != len(parts) {
		return false
	}
	for i := range p {
		if p[i] != parts[i] {
			return false
		}
	}
	return true
}

// mediaTarget reads what follows /_matrix/media/: {version}/download/{server}/{id}[/{name}], {version}/thumbnail/{server}/{id}, or something else
// that needs a token.
func mediaTarget(rest path) target {
	switch {
	case len(rest) >= 2 && rest[1] == "upload":
		return target{kind: targetUpload}
	case len(rest) == 2 && (rest[1] == "config" || rest[1] == "preview_url" || rest[1] == "create"):
		return target{kind: targetPass}
	case len(rest) >= 4 && (rest[1] == "download" || rest[1] == "thumbnail"):
		return target{kind: targetPublicMedia, server: rest[2]}
	}
	return target{}
}

// delayedTarget reads what follows …/delayed_events.
func delayedTarget(rest path) target {
	switch {
	case len(rest) == 0:
		return target{kind: targetDelayedList}
	case rest[0] == "" || len(rest[0]) > maxIdentifier || len(rest) > 2:
		return target{}
	case len(rest) == 1:
		return target{kind: targetDelayed, delayID: rest[0]}
	case rest[1] == unstable.DelayRestart || rest[1] == unstable.DelaySend || rest[1] == unstable.DelayCancel:
		return target{kind: targetDelayed, delayID: rest[0], action: rest[1]}
	}
	return target{}
}

// roomTarget reads what follows /rooms/: {room}/state/{type}[/[{key}]] or {room}/send/{type}/{txn}.
func roomTarget(rest path) target {
	t := target{kind: targetSend, room: rest[0], eventType: rest[2]}
	switch {
	case rest[1] == "send" && len(rest) == 4 && rest[3] != "":
		t.txn = rest[3]
	case rest[1] == "state" && len(rest) == 3:
		t.stateKey = new(string)
	case rest[1] == "state" && len(rest) == 4:
		t.stateKey = &rest[3]
	default:
		return target{kind: targetPass}
	}
	if t.long() || t.eventType == "" || !strings.HasPrefix(t.room, "!") {
		return target{kind: targetPass}
	}
	return t
}

// long says whether a name in a path is too long.
func (t target) long() bool {
	return len(t.room) > maxIdentifier || len(t.eventType) > maxIdentifier || len(t.txn) > maxIdentifier ||
		t.stateKey != nil && len(*t.stateKey) > maxIdentifier
}

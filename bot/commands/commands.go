// Package commands reads what admins write to a window in its room. There is no keyboard at a window, and an admin may be far away.
//
// A command is a text message that begins with "!window". It counts only if an admin's own device has encrypted it, and the admin has confirmed that
// device (cross-signing, with the identity that was first seen): a homeserver can't make one.
package commands

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// name begins each command.
const name = "!window"

// maxText is the longest text that is read, in bytes.
const maxText = 200

// Source has the events of rooms, as [bot.Bot] does.
type Source interface {
	On(t event.Type, f func(ctx context.Context, e *event.Event))
}

// Command is what an admin wrote.
type Command struct {
	Room   id.RoomID
	Sender id.UserID
	// Words are what follows the command's name, split at spaces. There may be none.
	Words []string
}

// Watch calls f with each command of an admin in an encrypted room, in the goroutine of the source's events. Call it before the source starts. f must
// not block.
func Watch(from Source, admins []id.UserID, f func(Command)) {
	from.On(event.EventMessage, func(_ context.Context, e *event.Event) {
		if c, ok := parse(admins, e); ok {
			f(c)
		}
	})
}

// parse reads a message. ok says whether it is an admin's command.
func parse(admins []id.UserID, e *event.Event) (c Command, ok bool) {
	if e.StateKey != nil || !slices.Contains(admins, e.Sender) || !trusted(&e.Mautrix) {
		return Command{}, false
	}
	var content struct {
		Type    event.MessageType `json:"msgtype"`
		Body    string            `json:"body"`
		Relates struct {
			Type event.RelationType `json:"rel_type"`
		} `json:"m.relates_to"`
	}
	err := json.Unmarshal(e.Content.VeryRaw, &content)
	// The body of a correction repeats the text with a star before it. A command counts as it was sent first.
	if err != nil || content.Type != event.MsgText || content.Relates.Type == event.RelReplace || len(content.Body) > maxText {
		return Command{}, false
	}
	words := strings.Fields(content.Body)
	if len(words) == 0 || words[0] != name {
		return Command{}, false
	}
	return Command{Room: e.RoomID, Sender: e.Sender, Words: words[1:]}, true
}

// trusted says whether a device that its user has confirmed, and not taken back, has encrypted an event. With a key that others have passed on, the trust is in
// them.
func trusted(info *event.MautrixInfo) bool {
	return info.WasEncrypted && info.TrustState >= id.TrustStateCrossSignedTOFU && !info.ForwardedKeys && info.TrustSource != nil && !info.TrustSource.Deleted
}

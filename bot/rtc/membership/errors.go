package membership

import (
	"errors"
	"fmt"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/unstable"
)

// ErrNotJoined says that the bot is not in the room, or no longer.
var ErrNotJoined = errors.New("not in the room")

// PowerLevelError says that the room does not let the bot be in its call. Somebody with power in the room must change that.
type PowerLevelError struct{ Room id.RoomID }

// Error implements error.
func (e *PowerLevelError) Error() string {
	return fmt.Sprintf("send call membership in %s: not allowed: in the room's m.room.power_levels set events[%q] to 0, "+
		"or to the power level that this user has", e.Room, unstable.CallMember)
}

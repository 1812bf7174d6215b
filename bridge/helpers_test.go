package bridge

import (
	"time"

	"go.mau.fi/util/jsontime"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/rtc"
)

const (
	dresden = id.RoomID("!dresden:a")
	munich  = id.RoomID("!munich:b")
	bolzano = id.RoomID("!bolzano:c")
	guest   = id.UserID("@anna:elsewhere")
	ben     = id.UserID("@ben:elsewhere")

	testCountdown = 1200 * time.Millisecond
)

// Times that package window does not export.
const (
	pageGrace      = 30 * time.Second
	failureBackoff = 20 * time.Second
	emptyGrace     = 10 * time.Second
	ringBackoff    = time.Minute
	trialEvery     = 10 * time.Second
)

func kioskUser(room id.RoomID) id.UserID { return id.UserID("@kiosk-" + string(room[1:])) }

func windowOf(room id.RoomID, shutter directory.Shutter, since time.Time) directory.Window {
	return directory.Window{
		Room: room, Kiosk: kioskUser(room), Name: string(room[1:]), Shutter: shutter, Since: jsontime.UMInt(since.UnixMilli()), Joined: true,
	}
}

func memberOf(user id.UserID) rtc.Member {
	return rtc.Member{User: user, Device: "D", Identity: string(user) + ":D", Service: "https://hub/livekit/jwt"}
}

func kioskIn(room id.RoomID) rtc.Member { return memberOf(kioskUser(room)) }

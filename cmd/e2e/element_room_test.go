//go:build full

package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/unstable"
	"multifactorymodel.org/ewindow/cmd/e2e/element"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// owner logs in with the window's own account, as an operator can do with Element. The account owns the window's room. It logs out at the end
// of the test.
func (n *demoNetwork) owner(i int) *mautrix.Client {
	n.t.Helper()
	client := n.login(i, n.Windows[i].Username, n.Windows[i].Password)
	n.t.Cleanup(func() {
		if _, err := client.Logout(context.WithoutCancel(n.t.Context())); err != nil {
			n.t.Log(err)
		}
	})
	return client
}

// kicked removes the guest, who is visiting, from the room. The window then no longer shows the guest and sends the guest no key. Invited again,
// the guest calls as before.
func (v visitor) kicked(owner *mautrix.Client) {
	ctx, room, user := v.t.Context(), id.RoomID(v.w.room), id.UserID(v.User)
	if _, err := owner.KickUser(ctx, room, &mautrix.ReqKickUser{UserID: user}); err != nil {
		v.t.Fatal(err)
	}
	v.awaitNobody(20 * time.Second)
	rig.Eventually(v.t, 30*time.Second, func() error { return rig.Check(v.w.screen() == "alone", "the window waiting", v.w.state()) })
	rig.Eventually(v.t, 30*time.Second, func() error {
		var calling bool
		err := v.Ask(fmt.Sprintf(`[...%s.document.querySelectorAll("button")].find((b) => b.innerText.trim() === "Close").click()`, element.Frame), nil)
		if err == nil {
			calling, err = v.Calling()
		}
		return rig.Check(err == nil && !calling, "the end of Element's call", fmt.Sprint(err, v.Trace()))
	})
	if _, err := owner.InviteUser(ctx, room, &mautrix.ReqInviteUser{UserID: user}); err != nil {
		v.t.Fatal(err)
	}
	// The guest's old membership has no effect: the window stays alone until the guest calls again.
	v.JoinRoom(v.w.room)
	before, began := v.w.decoded(), time.Now()
	rig.Eventually(v.t, 10*time.Second, func() error { return rig.Check(time.Since(began) > 4*time.Second, "some time", nil) })
	if screen, now := v.w.screen(), v.w.decoded(); screen != "alone" || now != before {
		v.t.Errorf("the window shows %q and has decoded %.0f frames of somebody who is not in the call", screen, now-before)
	}
	v.visit()
	v.HangUp()
	v.awaitAlone(20 * time.Second)
}

// roomUpgraded upgrades the window's room during the call. The call in the old room ends in order, and the guest calls the window in its new
// room. It returns during that visit.
func (v visitor) roomUpgraded(owner *mautrix.Client) {
	ctx, old := v.t.Context(), id.RoomID(v.w.room)
	v.visit()
	var answer struct {
		Room id.RoomID `json:"replacement_room"`
	}
	if _, err := owner.MakeRequest(ctx, http.MethodPost, owner.BuildClientURL("v3", "rooms", old, "upgrade"), map[string]any{"new_version": id.RoomV12}, &answer); err != nil {
		v.t.Fatal(err)
	}
	v.awaitNobody(30 * time.Second)
	rig.Eventually(v.t, 30*time.Second, func() error {
		tiles, err := v.Remotes()
		return rig.Check(err == nil && len(tiles) == 0, "Element showing no window", fmt.Sprint(tiles, err))
	})
	v.HangUp()
	var tombstone event.TombstoneEventContent
	if err := owner.StateEvent(ctx, old, event.StateTombstone, "", &tombstone); err != nil || tombstone.ReplacementRoom != answer.Room {
		v.t.Errorf("the old room's tombstone names %q, not %q, %v", tombstone.ReplacementRoom, answer.Room, err)
	}
	rig.Eventually(v.t, 30*time.Second, func() error {
		rooms, err := v.w.n.listedRooms() // for a moment Dresden lists neither room
		return rig.Check(err == nil && rooms[1] == answer.Room.String(), "the other window knowing the new room", fmt.Sprint(rooms, err))
	})
	v.w.room = answer.Room.String()
	v.JoinRoom(v.w.room)
	v.visit()
}

// callsForbidden raises the power level that a membership event needs, as a moderator can do in Element's room settings. So guests may no longer
// join calls in the room. The window resets the power level by itself. The visit goes on, and the guest can join anew as before. It returns
// during that visit.
func (v visitor) callsForbidden(owner *mautrix.Client) {
	ctx, room := v.t.Context(), id.RoomID(v.w.room)
	callMember := event.Type{Type: unstable.CallMember, Class: event.StateEventType}
	v.visit()
	var power event.PowerLevelsEventContent
	if err := owner.StateEvent(ctx, room, event.StatePowerLevels, "", &power); err != nil {
		v.t.Fatal(err)
	}
	power.SetEventLevel(callMember, 50)
	if _, err := owner.SendStateEvent(ctx, room, event.StatePowerLevels, "", &power); err != nil {
		v.t.Fatal(err)
	}
	rig.Eventually(v.t, 10*time.Second, func() error {
		var power event.PowerLevelsEventContent
		err := owner.StateEvent(ctx, room, event.StatePowerLevels, "", &power)
		return rig.Check(err == nil && power.GetEventLevel(callMember) == 0, "calls being allowed", err)
	})
	v.seen("calls were forbidden")
	v.HangUp()
	v.awaitAlone(20 * time.Second)
	v.visit()
}

package rig

import (
	"testing"

	"go.mau.fi/util/ptr"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/unstable"
)

// CallRoom makes an encrypted room in which everybody may be in a call, and invites users.
func CallRoom(t testing.TB, admin *mautrix.Client, users ...id.UserID) id.RoomID {
	t.Helper()
	room, err := admin.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{
		Preset: "private_chat",
		InitialState: []*event.Event{{
			Type: event.StateEncryption, StateKey: ptr.Ptr(""),
			Content: event.Content{Parsed: &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1}},
		}},
		PowerLevelOverride: &event.PowerLevelsEventContent{Events: map[string]int{unstable.CallMember: 0}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range users {
		if _, err := admin.InviteUser(t.Context(), room.RoomID, &mautrix.ReqInviteUser{UserID: user}); err != nil {
			t.Fatal(err)
		}
	}
	return room.RoomID
}

//go:build full

package rig_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// last returns the text of the newest message in a room.
func last(t *testing.T, client *mautrix.Client, room id.RoomID) string {
	t.Helper()
	messages, err := client.Messages(t.Context(), room, "", "", mautrix.DirectionBackward, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range messages.Chunk {
		text, _ := e.Content.Raw["body"].(string)
		return text
	}
	return ""
}

func TestFederation(t *testing.T) {
	servers := rig.StartFederation(t)
	annaID, _ := servers[0].Register(t, "anna")
	benID, _ := servers[1].Register(t, "ben")
	anna, ben := servers[0].Client(t, annaID), servers[1].Client(t, benID)
	room, err := anna.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{
		Preset: "private_chat", Invite: []id.UserID{benID}, RoomVersion: id.RoomV12,
	})
	if err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, 20*time.Second, func() error {
		_, err := ben.JoinRoom(t.Context(), room.RoomID.String(), &mautrix.ReqJoinRoom{Via: []string{servers[0].ServerName}})
		return err
	})
	if _, err := anna.SendText(t.Context(), room.RoomID, "from Dresden"); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, 20*time.Second, func() error {
		if text := last(t, ben, room.RoomID); text != "from Dresden" {
			return fmt.Errorf("ben's newest message is %q", text)
		}
		return nil
	})
	if _, err := ben.SendMessageEvent(t.Context(), room.RoomID, event.EventMessage, map[string]any{"msgtype": "m.text", "body": "from Munich"}); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, 20*time.Second, func() error {
		if text := last(t, anna, room.RoomID); text != "from Munich" {
			return fmt.Errorf("anna's newest message is %q", text)
		}
		return nil
	})
}

func TestOutage(t *testing.T) {
	hs := rig.StartHomeserver(t)
	user, _ := hs.Register(t, "anna")
	client := hs.Client(t, user)
	client.DefaultHTTPRetries = 0
	hs.Kill(t)
	if _, err := client.Whoami(t.Context()); err == nil {
		t.Fatal("the homeserver still answers after it was killed")
	}
	hs.Restart(t)
	who, err := client.Whoami(t.Context())
	if err != nil || who.UserID != user {
		t.Fatal(who, err)
	}
}

// TestServerName reaches the server as another homeserver or an authorisation service does: by its server name, over TLS.
func TestServerName(t *testing.T) {
	hs := rig.StartHomeserver(t)
	res, err := hs.HTTPClient.Get("https://" + hs.ServerName + "/_matrix/key/v2/server")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s", res.StatusCode, text)
	}
}

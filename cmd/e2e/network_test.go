package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"maunium.net/go/mautrix"

	"multifactorymodel.org/ewindow/bridge/kiosk"
)

// hubAnswer is an answer of a hub. ErrCode and Error are those of a refusal.
type hubAnswer struct{ URL, JWT, ErrCode, Error string }

// ask sends a request to a window's hub, with an account's access token. There is no body if that is nil.
func (n *demoNetwork) ask(hub int, client *mautrix.Client, method, path string, body any) (status int, got hubAnswer) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			n.t.Fatal(err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d%s", n.Windows[hub].Local, path), bytes.NewReader(text))
	if err != nil {
		n.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+client.AccessToken)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		n.t.Fatalf("%s answers %s, which can't be read: %v", path, response.Status, err)
	}
	return response.StatusCode, got
}

// askForToken asks a window's hub for access to a room's call as any client does: it gets an OpenID token from its homeserver and exchanges it at the
// hub's authorisation service.
func (n *demoNetwork) askForToken(hub int, client *mautrix.Client, room string) (status int, got hubAnswer) {
	n.t.Helper()
	openID, err := client.RequestOpenIDToken(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return n.ask(hub, client, http.MethodPost, "/livekit/jwt/sfu/get", map[string]any{"room": room, "openid_token": openID, "device_id": client.DeviceID})
}

// askForRelay asks a window's hub for access to its TURN relay.
func (n *demoNetwork) askForRelay(hub int, client *mautrix.Client) (status int) {
	n.t.Helper()
	status, _ = n.ask(hub, client, http.MethodGet, "/_matrix/client/v3/voip/turnServer", nil)
	return status
}

// windowRooms returns the room that each window's kiosk lists for the other window. So the first is Dresden's room, the second Munich's.
func (n *demoNetwork) windowRooms() []string {
	n.t.Helper()
	rooms, err := n.listedRooms()
	if err != nil {
		n.t.Fatal(err)
	}
	return rooms
}

// listedRooms is windowRooms for a moment in which a kiosk may list no window: that is an error.
func (n *demoNetwork) listedRooms() (rooms []string, err error) {
	for i, p := range n.Windows {
		state, err := n.state(i)
		if err != nil || len(state.Windows) != 1 {
			return nil, fmt.Errorf("%s knows %d windows, %v", p.Name, len(state.Windows), err)
		}
		rooms = append(rooms, state.Windows[0].Room.String())
	}
	return rooms, nil
}

// state returns what a window's page shows.
func (n *demoNetwork) state(i int) (state kiosk.State, err error) {
	page, err := url.Parse(n.page(i))
	if err != nil {
		return state, err
	}
	o, err := kiosk.Dial(n.t.Context(), page.Host, page.Fragment)
	if err != nil {
		return state, err
	}
	defer o.Close()
	return o.Next(n.t.Context())
}

package homeserver

import (
	"context"
	"encoding/json"
	"net/http"

	"go.mau.fi/util/exhttp"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/unstable"
)

// serveSFUToken gives a device access to our SFU. Its access token proves who it is, and is known to nobody but this homeserver.
func (f *Front) serveSFUToken(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), actionLimit)
	defer cancel()
	who, err := f.authenticate(r)
	if err != nil {
		f.fail(w, r, err)
		return
	}
	text, err := readBody(w, r, 4<<10)
	if err != nil {
		f.fail(w, r, err)
		return
	}
	var request struct {
		Room id.RoomID `json:"room_id"`
	}
	if json.Unmarshal(text, &request) != nil {
		f.answer(w, mautrix.MNotJSON.WithMessage("The body is no valid JSON object"))
		return
	}
	url, jwt, err := f.sfuToken(ctx, who.user, who.device, request.Room)
	if err != nil {
		f.fail(w, r, err)
		return
	}
	exhttp.WriteJSONResponse(w, http.StatusOK, map[string]string{
		unstable.ServiceURL: f.transport[0].ServiceURL, "url": url, "jwt": jwt,
	})
}

// TURNAccess is access to a TURN server, as clients are told (client-server API, "Voice over IP").
type TURNAccess struct {
	Username string   `json:"username"`
	Password string   `json:"password"`
	URIs     []string `json:"uris"`
	TTL      int      `json:"ttl"` // seconds
}

// serveTURN gives a user access to our TURN server.
func (f *Front) serveTURN(w http.ResponseWriter, r *http.Request) {
	who, err := f.authenticate(r)
	if err != nil {
		f.fail(w, r, err)
		return
	}
	access, ok := f.turn(who.user)
	if !ok {
		f.answer(w, mautrix.MForbidden.WithMessage("You are in no room of this network").WithStatus(http.StatusForbidden))
		return
	}
	exhttp.WriteJSONResponse(w, http.StatusOK, access)
}

package focus_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/proof"
	"multifactorymodel.org/ewindow/callmedia/focus"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestProof is TestReplay for a window of another homeserver, which has only OpenID tokens and its device's key. Somebody whom it has given an OpenID
// token to can't keep it from its place, and gets nothing once it has shown its key.
func TestProof(t *testing.T) {
	hs := rig.StartHomeserver(t)
	l := rig.StartLiveKitWith(t, rig.LiveKitOptions{NoAutoCreate: true})
	account, other := crypto.NewOlmAccount(), crypto.NewOlmAccount()
	const service, room = "https://hub.example.org/livekit/jwt", "!room:elsewhere.example"
	window := newPerson(t, hs, "window")
	var known atomic.Bool // as a window of the network
	s, err := focus.NewService(focus.ServiceConfig{
		LiveKitURL: l.HTTPURL, PublicURL: newProxy(t, l), ServiceURL: service + "/", Key: l.Key, Secret: l.Secret, FullAccess: []string{hs.ServerName},
		Allowed: loopbackOnly, Log: zerolog.Nop(),
		DeviceKey: func(_ context.Context, user id.UserID, device id.DeviceID) (id.Ed25519, error) {
			if user != window.id || device != "DEVICE" {
				return "", errors.New("there is no such device")
			}
			return account.SigningKey(), nil
		},
		Window: func(user id.UserID) bool { return known.Load() && user == window.id },
	})
	if err != nil {
		t.Fatal(err)
	}
	focus.TrustOnly(s, roots(t))
	// get asks with a signature for a service, or without one if there is no account.
	get := func(account *crypto.OlmAccount, service string) (int, map[string]any) {
		t.Helper()
		body := window.plain(t, room)
		signature := ""
		if account != nil {
			claim := proof.Claim{Service: service, Room: room, User: window.id, Device: "DEVICE", OpenID: body["openid_token"].(map[string]any)["access_token"].(string)}
			var err error
			if signature, err = account.SignJSON(claim.Content()); err != nil {
				t.Fatal(err)
			}
		}
		signed := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if signature != "" {
				r.Header.Set(proof.Header, signature)
			}
			s.ServeHTTP(w, r)
		})
		status, answer, _ := ask(t, signed, "POST", "/sfu/get", body)
		return status, answer
	}
	given := func(status int, answer map[string]any) map[string]any {
		t.Helper()
		if status != http.StatusOK {
			t.Fatalf("answered %d %v", status, answer)
		}
		return answer
	}

	// A hub that has just been started knows it as a window.
	known.Store(true)
	if status, answer := get(nil, ""); status != http.StatusForbidden || answer["errcode"] != "M_FORBIDDEN" {
		t.Errorf("for a window's OpenID token alone the answer is %d %v", status, answer)
	}
	known.Store(false)

	// It is somebody else. Somebody with its OpenID token is there before it. A signature for another service, or with another key, helps them nothing.
	stolen := given(get(nil, ""))
	thief := enter(t, stolen)
	mine := given(get(account, service))
	own := enter(t, mine)
	wantOver(t, thief)
	wantAlive(t, l, own, mine)
	for what, try := range map[string]func() (int, map[string]any){
		"without a signature":                  func() (int, map[string]any) { return get(nil, "") },
		"with a signature for another service": func() (int, map[string]any) { return get(account, "https://elsewhere.example") },
		"with another device's signature":      func() (int, map[string]any) { return get(other, service) },
	} {
		if status, answer := try(); status != http.StatusForbidden || answer["errcode"] != "M_FORBIDDEN" {
			t.Errorf("%s: answered %d %v", what, status, answer)
		}
	}
	wantTaken(t, stolen)
	wantAlive(t, l, own, mine)
	again := enter(t, given(get(account, service))) // the window's program was started again
	wantOver(t, own)
	wantAlive(t, l, again, mine)
}

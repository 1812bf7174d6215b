package focus

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"maunium.net/go/mautrix/id"
)

// FuzzRequest reads request bodies in both forms. It demands that an accepted one is within bounds, and means the same when it is encoded
// again.
func FuzzRequest(f *testing.F) {
	for _, text := range []string{
		`{"room":"!abc:space.example","openid_token":{"access_token":"opaque","token_type":"Bearer","matrix_server_name":"space.example","expires_in":3600},"device_id":"KIOSKAAAA1"}`,
		`{"room_id":"!abc:space.example","slot_id":"m.call#ROOM","openid_token":{"access_token":"opaque","token_type":"Bearer","matrix_server_name":"space.example:8448","expires_in":3600},"member":{"id":"2b1f6c1e","claimed_user_id":"@window:space.example","claimed_device_id":"KIOSKAAAA1"}}`,
		`{"room":"!a:b","openid_token":{"access_token":"o","matrix_server_name":"[::1]:8448"},"device_id":"D","delay_id":"x","delay_timeout":1}`,
		`{"room":"!a:b","openid_token":{"access_token":"o","matrix_server_name":"b"},"device_id":"D","more":1}`,
		`{"room":"!a:b","openid_token":{"access_token":"o","matrix_server_name":"b"},"device_id":"8448:D"}`,
		`{}`, ``, `null`, `[]`, `{"room":"!a:b"}{}`, `{"room":1}`, "{\"room\":\"!\xff\"}", `{"room":"!\u0000"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, decode := range []func([]byte) (tokenRequest, *apiError){
			func(b []byte) (tokenRequest, *apiError) { return decodePlain(bytes.NewReader(b)) },
			func(b []byte) (tokenRequest, *apiError) { return decodeHashed(bytes.NewReader(b)) },
		} {
			w, err := decode(body)
			if err != nil {
				if err.status != http.StatusBadRequest || err.code != "M_NOT_JSON" && err.code != "M_BAD_JSON" || w.name != "" || w.identity != nil {
					t.Fatalf("refused with %+v and %+v", err, w)
				}
				continue
			}
			if len(body) > maxBody || !json.Valid(body) {
				t.Fatal("a body that is no JSON or too long was accepted")
			}
			if len(w.name) != 43 || !validServerName(w.token.MatrixServerName) || w.token.AccessToken == "" {
				t.Fatalf("accepted %+v", w)
			}
			name := w.identity("@u:s")
			if plain, ok := strings.CutPrefix(name, "@u:s:"); ok && strings.Contains(plain, ":") || name == w.identity("@v:s") {
				t.Fatalf("the identity %q is not one user's", name)
			}
			var again bytes.Buffer
			if err := json.Compact(&again, body); err != nil {
				t.Fatal(err)
			}
			if v, err := decode(again.Bytes()); err != nil || v.name != w.name || v.identity("@u:s") != name {
				t.Fatalf("encoded again it is %+v, %v", v, err)
			}
		}
	})
}

// FuzzUserInfo reads homeservers' answers. It demands that an accepted one names a user of that very homeserver.
func FuzzUserInfo(f *testing.F) {
	for _, text := range []string{
		`{"sub":"@window:space.example"}`, `{"sub":"@window:evil.example"}`, `{"sub":"window:space.example"}`, `{"sub":"@:space.example"}`,
		`{"sub":"@a:space.example:8448"}`, `{"sub":"@a:space.example\u0000"}`, `{"sub":":"}`, `{"sub":""}`, `{"sub":1}`, `null`, ``,
		`{"sub":"@a:space.example","more":[{}]}`,
	} {
		f.Add([]byte(text), "space.example")
	}
	f.Fuzz(func(t *testing.T, text []byte, server string) {
		user, err := readUserInfo(text, server)
		if err != nil {
			if user != "" {
				t.Fatalf("%q came with the error %v", user, err)
			}
			return
		}
		if !strings.HasPrefix(string(user), "@") || !strings.HasSuffix(string(user), ":"+server) || len(user) > maxMatrixID {
			t.Fatalf("%q is no user of %q", user, server)
		}
		local, host, err := id.UserID(user).Parse()
		if err == nil && (local == "" || host != server) {
			t.Fatalf("%q is read as %q at %q", user, local, host)
		}
	})
}

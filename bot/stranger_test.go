package bot_test

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// keyQueries are a bot's questions for users' keys.
type keyQueries struct {
	http.RoundTripper

	mu   sync.Mutex // guards list
	list []string
}

func (q *keyQueries) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/keys/query") {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(body)
		if err != nil {
			return nil, err
		}
		q.mu.Lock()
		q.list = append(q.list, string(text))
		q.mu.Unlock()
	}
	return q.RoundTripper.RoundTrip(r)
}

// about returns the questions that name a user. The homeserver also says at some time that a friend's devices have changed, and that is asked then.
func (q *keyQueries) about(user id.UserID) (list []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, text := range q.list {
		if strings.Contains(text, user.String()) {
			list = append(list, text)
		}
	}
	return list
}

// TestStrangers: 300 messages that nobody can decrypt, and 400 notices that a key is withheld, come from somebody who is in no room with us, and
// then from somebody who is. They cause no work and leave nothing behind.
func TestStrangers(t *testing.T) {
	hs := rig.StartHomeserver(t)
	account := rig.NewBotAccount(t, hs, "dresden")
	cfg := account.Config(t)
	queries := &keyQueries{RoundTripper: http.DefaultTransport}
	cfg.HTTPClient = &http.Client{Transport: queries}
	b, friend := newBot(t, cfg), rig.NewBot(t, hs, "munich")
	in := listen(b)
	rig.RunBot(t, b)
	rig.RunBot(t, friend)
	meet(t, b, friend)
	deliver(t, friend, b, in, "before")
	user, _ := hs.Register(t, "anna")
	client := hs.Client(t, user)
	keys, err := client.QueryKeys(t.Context(), queryFor(b))
	if err != nil {
		t.Fatal(err)
	}
	own := keys.DeviceKeys[b.UserID()][b.DeviceID()].Keys.GetCurve25519(b.DeviceID())
	for _, meets := range []bool{false, true} {
		name := "a stranger"
		if meets {
			name = "a member"
			room := makeRoom(t, b, client)
			waitMembers(t, b, room, 2)
		}
		before, asked := b.Stats().Dropped, len(queries.about(user))
		flood(t, client, device(b), own)
		rig.Eventually(t, limit, func() error {
			n, was := uint64(0), uint64(0)
			for _, count := range b.Stats().Dropped {
				n += count
			}
			for _, count := range before {
				was += count
			}
			return rig.Check(n-was >= 700-4, "that all messages are dropped, but for four that wait for their sender's join", n-was)
		})
		deliver(t, friend, b, in, "after "+name)
		allowed := 6
		if !meets {
			allowed = 0
		}
		if list := queries.about(user)[asked:]; len(list) > allowed {
			t.Errorf("%s made us ask %d times for keys: %q", name, len(list), list)
		}
		for table, want := range map[string]int{"crypto_megolm_inbound_session": 0, "crypto_olm_session": 2} {
			var rows int
			if err := cfg.DB.QueryRow(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&rows); err != nil || rows > want {
				t.Errorf("%s left %d rows in %s, %v", name, rows, table, err)
			}
		}
	}
}

// flood sends 300 Olm messages of invented devices, and 400 notices about invented sessions.
func flood(t *testing.T, from *mautrix.Client, to bot.Device, identity id.Curve25519) {
	t.Helper()
	var sending sync.WaitGroup
	junk := func(n int) string {
		bytes := make([]byte, n)
		_, _ = rand.Read(bytes)
		return base64.RawStdEncoding.EncodeToString(bytes)
	}
	for worker := range 10 {
		sending.Go(func() {
			for n := range 70 {
				kind, content := "m.room.encrypted", map[string]any{
					"algorithm": id.AlgorithmOlmV1, "sender_key": junk(32),
					"ciphertext": map[id.Curve25519]any{identity: map[string]any{"type": n % 2, "body": junk(120)}},
				}
				if n >= 30 {
					kind, content = "m.room_key.withheld", map[string]any{
						"algorithm": id.AlgorithmMegolmV1, "room_id": "!a:b", "sender_key": junk(32), "session_id": junk(32),
						"code": "m.unverified", "reason": strings.Repeat("x", 5_000),
					}
				}
				if _, err := from.MakeRequest(t.Context(), http.MethodPut, from.BuildClientURL(
					"v3", "sendToDevice", kind, fmt.Sprint("flood ", worker, " ", n, junk(6)),
				), map[string]any{"messages": map[id.UserID]any{to.User: map[id.DeviceID]any{to.ID: content}}}, nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	sending.Wait()
}

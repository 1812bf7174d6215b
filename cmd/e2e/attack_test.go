//go:build full

package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/cmd/e2e/page"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// attacks is a visit of two windows, and people who try to disturb it. The attacks of strangers and of members are in files of their own.
type attacks struct {
	*demoNetwork
	pages [2]*page.Page
	// rooms are the windows' rooms, first Dresden's, then Munich's.
	rooms []string
	// member was invited into the network's Space by its admin, and is in the rooms of both windows. stranger was invited nowhere.
	member, stranger *attacker
}

// attacker is an account with a device.
type attacker struct {
	t      testing.TB
	base   string // of the homeserver's front
	client *mautrix.Client
}

// TestAttacks is a visit during which a stranger and a member of the network attack, one attack after the other. Each attack is refused, or changes
// nothing. Both windows go on with the visit, and lose at most one picture in twenty over all attacks.
func TestAttacks(t *testing.T) {
	t.Parallel()
	a := newAttacks(t)
	before := a.reports()
	for _, attack := range slices.Concat(strangersAttacks, membersAttacks) {
		t.Run(attack.name, func(t *testing.T) {
			now := *a
			now.member, now.stranger = a.member.in(t), a.stranger.in(t)
			attack.run(t, &now)
			a.checkVisit(t)
		})
	}
	after := a.reports()
	for i, p := range a.pages {
		filmed, shown := after[1-i].Filmed-before[1-i].Filmed, after[i].Pictures-before[i].Pictures
		t.Logf("%s showed %d of %d pictures while the attacks ran", p.Name, shown, filmed)
		if shown*100 < filmed*95 {
			t.Errorf("%s showed %d of %d pictures while the attacks ran", p.Name, shown, filmed)
		}
	}
	a.checkLogs()
}

// attack is one kind of attack.
type attack struct {
	name string
	run  func(t *testing.T, a *attacks)
}

// newAttacks begins a visit, and lets the admin invite the member.
func newAttacks(t *testing.T) *attacks {
	n := startDemo(t, t.TempDir())
	n.await("know each other", time.Minute)
	n.traceLogs()
	a := &attacks{demoNetwork: n, pages: n.startPages()}
	a.rooms = n.windowRooms()
	a.member, a.stranger = n.attacker(t, 0, "mallory"), n.attacker(t, 1, "eve")
	admin := n.admin()
	if _, err := admin.InviteUser(t.Context(), id.RoomID(n.Space), &mautrix.ReqInviteUser{UserID: a.member.client.UserID}); err != nil {
		t.Fatal(err)
	}
	a.join(a.member, n.Space)
	a.join(a.member, a.rooms[1])
	// Dendrite refuses a restricted join if another user of the same homeserver is in the room already, as Munich's kiosk is in Dresden's.
	if _, err := n.owner(1).InviteUser(t.Context(), id.RoomID(a.rooms[0]), &mautrix.ReqInviteUser{UserID: a.member.client.UserID}); err != nil {
		t.Fatal(err)
	}
	a.join(a.member, a.rooms[0])
	for _, p := range a.pages {
		p.Command(t, "open")
	}
	a.checkVisit(t)
	return a
}

// attacker registers an account on a window's homeserver and logs in.
func (n *demoNetwork) attacker(t testing.TB, i int, name string) *attacker {
	account := n.registerAccount(i, name)
	return &attacker{t: t, base: account.Homeserver, client: n.login(i, account.User, account.Password)}
}

// in is the same attacker in a subtest.
func (a *attacker) in(t testing.TB) *attacker { return &attacker{t: t, base: a.base, client: a.client} }

// servers are the names of both homeservers.
func (a *attacks) servers() (names []string) {
	for _, w := range a.Windows {
		names = append(names, fmt.Sprintf("localhost:%d", w.Public))
	}
	return names
}

// join lets an attacker join a room.
func (a *attacks) join(who *attacker, room string) {
	who.t.Helper()
	path := matrixPath("v3", "join", room) + "?" + url.Values{"via": a.servers(), "server_name": a.servers()}.Encode()
	rig.Eventually(who.t, time.Minute, func() error {
		got := who.try(http.MethodPost, path, struct{}{})
		return rig.Check(got.status == http.StatusOK, "joining "+room, got)
	})
}

func (a *attacks) reports() (reports [2]page.Report) {
	for i, p := range a.pages {
		reports[i] = p.Report()
	}
	return reports
}

// checkVisit waits until both windows show new pictures and play new sound of each other.
func (a *attacks) checkVisit(t *testing.T) {
	t.Helper()
	before := a.reports()
	for i, p := range a.pages {
		p.Await(t, time.Minute, "the visit", func(r page.Report) bool {
			return r.Screen == "visit" && len(r.Joined) == 1 && r.Pictures > before[i].Pictures+30 && r.Sounds > before[i].Sounds+30
		})
	}
}

// answer is what a homeserver says to a request.
type answer struct {
	status int
	code   string // M_FORBIDDEN and the like
	body   []byte
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, a.body) }

// try makes a request below /_matrix/client with the attacker's access token. If the homeserver asks for a pause, try makes it. A path is made by
// [matrixPath].
func (a *attacker) try(method, path string, body any) answer {
	a.t.Helper()
	for {
		got, wait := a.request(method, "/_matrix/client"+path, body)
		if got.status != http.StatusTooManyRequests {
			return got
		}
		select {
		case <-time.After(wait):
		case <-a.t.Context().Done():
			a.t.Fatal(a.t.Context().Err())
		}
	}
}

// request makes a request. wait is the pause that the homeserver asks for.
func (a *attacker) request(method, path string, body any) (got answer, wait time.Duration) {
	a.t.Helper()
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			a.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(a.t.Context(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(data))
	if err != nil {
		a.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+a.client.AccessToken)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		a.t.Fatal(err)
	}
	defer response.Body.Close()
	got.status = response.StatusCode
	if got.body, err = io.ReadAll(io.LimitReader(response.Body, 1<<20)); err != nil {
		a.t.Fatal(err)
	}
	var failure struct {
		Code  string `json:"errcode"`
		Retry int    `json:"retry_after_ms"`
	}
	_ = json.Unmarshal(got.body, &failure)
	got.code = failure.Code
	return got, max(time.Duration(failure.Retry)*time.Millisecond, 50*time.Millisecond)
}

// refused makes a request that the homeserver must refuse. Dendrite refuses to let somebody join or read a restricted room with status 500 and an
// empty error.
func (a *attacker) refused(what, method, path string, body any) {
	a.t.Helper()
	got := a.try(method, path, body)
	if (got.status < 400 || got.status >= 500) && string(got.body) != `{"Err":""}` {
		a.t.Errorf("%s is not refused: %v", what, got)
	}
}

// does makes a request that the homeserver must accept. Otherwise the attack does not happen.
func (a *attacker) does(method, path string, body any) []byte {
	a.t.Helper()
	got := a.try(method, path, body)
	if got.status != http.StatusOK {
		a.t.Fatalf("%s %s: %v", method, path, got)
	}
	return got.body
}

// get reads something that the attacker may read.
func (a *attacker) get(path string, into any) {
	a.t.Helper()
	if err := json.Unmarshal(a.does(http.MethodGet, path, nil), into); err != nil {
		a.t.Fatal(err)
	}
}

// matrixPath joins parts to a path, and escapes each.
func matrixPath(parts ...string) string {
	var path strings.Builder
	for _, part := range parts {
		path.WriteString("/" + url.PathEscape(part))
	}
	return path.String()
}

// statePath is the path of a state event.
func statePath(room, eventType, key string) string {
	return matrixPath("v3", "rooms", room, "state", eventType, key)
}

// sendRaw writes bytes to a port of this machine, and returns the status of each answer. It waits for so many answers, until the server closes the
// connection, or until the server says nothing for a second.
func sendRaw(t testing.TB, port, answers int, text string) (statuses []int) {
	t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		return nil
	}
	reader := bufio.NewReader(conn)
	for range answers {
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			return statuses
		}
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		statuses = append(statuses, response.StatusCode)
		if err != nil {
			return statuses
		}
	}
	return statuses
}

// traceLogs starts the kiosks and the hubs again with logs that hold everything.
func (n *demoNetwork) traceLogs() {
	n.t.Helper()
	for i := range n.Windows {
		n.configure(i, func(text string) string { return text + "logging:\n  level: trace\n" })
		n.kill(n.hub(i))
		n.kill(n.kiosk(i))
	}
}

// checkLogs looks for secrets in all logs of the demonstration.
func (a *attacks) checkLogs() {
	t := a.t
	t.Helper()
	secrets := map[string]string{
		"the admin's password": a.Password, "the member's access token": a.member.client.AccessToken, "the stranger's access token": a.stranger.client.AccessToken,
	}
	var logs []string
	for i, w := range a.Windows {
		name := w.Name + "'s "
		secrets[name+"password"] = w.Password
		secrets[name+"registration secret"] = w.Registration
		secrets[name+"TURN secret"] = w.TurnSecret
		secrets[name+"page's key"] = a.page(i)[strings.Index(a.page(i), "#")+1:]
		secrets[name+"access token"] = a.kioskToken(i)
		for _, pattern := range []string{"*.log", "data/*.log", "data/*/*.log"} {
			found, err := filepath.Glob(filepath.Join(a.folder, w.Username, pattern))
			if err != nil {
				t.Fatal(err)
			}
			logs = append(logs, found...)
		}
	}
	details := 0
	for _, path := range logs {
		log, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		details += bytes.Count(log, []byte(`"level":"debug"`)) + bytes.Count(log, []byte(" DBG "))
		for what, secret := range secrets {
			if len(secret) < 12 {
				t.Fatalf("%s is %q", what, secret)
			}
			if bytes.Contains(log, []byte(secret)) {
				t.Errorf("%s is in %s", what, path)
			}
		}
	}
	if details == 0 {
		t.Errorf("the logs hold no line of the level debug: %q", logs)
	}
}

// kioskToken reads a kiosk's access token from its database.
func (n *demoNetwork) kioskToken(i int) (token string) {
	n.t.Helper()
	db, err := sql.Open("sqlite", "file:"+n.database(i)+"?_pragma=busy_timeout(5000)")
	if err != nil {
		n.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(n.t.Context(), "SELECT access_token FROM ewindow_account").Scan(&token); err != nil {
		n.t.Fatal(err)
	}
	return token
}

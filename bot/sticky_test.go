package bot

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/migrations"
)

// TestKeepSticky: sticky events of joined rooms outlast the program as long as they are sticky, and nobody can fill the disk with them.
func TestKeepSticky(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kiosk.db")
	kind := event.Type{Type: "org.example.sticky"}
	run := func(f func(b *Bot)) {
		t.Helper()
		db, err := migrations.OpenKiosk(t.Context(), path, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		b, err := New(Config{HomeserverURL: "https://one.example", Username: "w", Password: "p", DB: db, DataDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		b.On(kind, func(context.Context, *event.Event) {})
		f(b)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	now := time.UnixMilli(1_793_000_000_000)
	keep := func(b *Bot, room id.RoomID, sections string) {
		t.Helper()
		var r syncResponse
		if err := json.Unmarshal([]byte(`{"next_batch":"n","rooms":{"join":{"`+string(room)+`":{`+sections+`}}}}`), &r); err != nil {
			t.Fatal(err)
		}
		if err := b.keepSticky(t.Context(), now, r.roomEvents()); err != nil {
			t.Fatal(err)
		}
	}
	one := func(id, sender, kind, more string) string {
		return fmt.Sprintf(`{"type":%q,"event_id":%q,"sender":%q,"origin_server_ts":%d,%s}`, kind, id, sender, now.UnixMilli(), more)
	}
	const hour = `"msc4354_sticky":{"duration_ms":3600000}`
	kept := func(b *Bot, rooms ...id.RoomID) string {
		t.Helper()
		events, err := b.keptSticky(t.Context(), now, rooms)
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, e := range events {
			list = append(list, fmt.Sprint(e.RoomID, e.ID, " ", StickyLeft(now, e)))
			if e.Type.Class != event.MessageEventType || e.Mautrix.EventSource != event.SourceJoin|event.SourceSticky {
				t.Errorf("%+v", e)
			}
		}
		return strings.Join(list, ", ")
	}
	run(func(b *Bot) {
		keep(b, "!a:x", `"timeline":{"events":[`+strings.Join([]string{
			one("$1", "@a:x", kind.Type, `"content":{"n":12345678901234567890,"b":1},`+hour), one("$2", "@a:x", kind.Type, `"content":{}`),
			one("$3", "@a:x", "org.example.other", `"content":{},`+hour), one("$4", "@a:x", kind.Type, `"state_key":"","content":{},`+hour),
			one("$5", "@a:x", kind.Type, `"content":{"x":"`+strings.Repeat("x", maxStickySize)+`"},`+hour),
			one("$6", "@a:x", "m.room.encrypted", `"content":{"algorithm":"m.megolm.v1.aes-sha2","ciphertext":"x","unknown":{"a":1}},`+hour),
		}, ",")+`]},"msc4354_sticky":{"events":[`+strings.Join([]string{
			one("$7", "@b:x", kind.Type, `"content":{},"unsigned":{"msc4354_sticky_duration_ttl_ms":600000}`), one("$1", "@a:x", kind.Type, `"content":{},`+hour),
		}, ",")+`]}`)
		keep(b, "!b:x", `"msc4354_sticky":{"events":[`+one("$8", "@a:x", kind.Type, `"content":{}`)+`]}`)
	})
	now = now.Add(5 * time.Minute)
	run(func(b *Bot) {
		if got := kept(b, "!a:x"); got != "!a:x$7 5m0s, !a:x$1 55m0s, !a:x$6 55m0s" {
			t.Fatal(got)
		}
		if got := kept(b, "!b:x"); got != "!b:x$8 55m0s" {
			t.Fatal(got)
		}
		events, err := b.keptSticky(t.Context(), now, []id.RoomID{"!a:x"})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if want := `{"algorithm":"m.megolm.v1.aes-sha2","ciphertext":"x","unknown":{"a":1}}`; e.ID == "$6" && string(e.Content.VeryRaw) != want {
				t.Errorf("%s", e.Content.VeryRaw)
			}
		}
		// One user sends more of them, and then many users do.
		for _, sender := range []string{"@a:x", ""} {
			var many []string
			for i := range 2 * maxStickyRoom {
				by := sender
				if by == "" {
					by = fmt.Sprintf("@%d:x", i)
				}
				many = append(many, one(fmt.Sprint("$", sender, i), by, kind.Type, `"content":{},`+hour))
			}
			keep(b, "!a:x", `"timeline":{"events":[`+strings.Join(many, ",")+`]}`)
			want := maxStickySender + 1
			if sender == "" {
				want = maxStickyRoom
			}
			if got := strings.Count(kept(b, "!a:x"), "$"); got != want {
				t.Fatalf("%d are kept, want %d", got, want)
			}
		}
	})
	now = now.Add(time.Hour)
	run(func(b *Bot) {
		if got := kept(b, "!a:x", "!b:x"); got != "" {
			t.Fatal(got)
		}
		keep(b, "!a:x", `"msc4354_sticky":{"events":[`+one("$9", "@a:x", kind.Type, `"content":{}`)+`]}`)
		var rows int
		if err := b.cfg.DB.QueryRow(t.Context(), `SELECT COUNT(*) FROM ewindow_sticky`).Scan(&rows); err != nil || rows != 1 {
			t.Fatal(rows, err)
		}
	})
}

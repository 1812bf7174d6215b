package bot_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/migrations"
)

func TestKeepDelayed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kiosk.db")
	with := func(f func(b *bot.Bot)) {
		t.Helper()
		db, err := migrations.OpenKiosk(t.Context(), path, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		b, err := bot.New(bot.Config{HomeserverURL: "https://one.example", Username: "w", Password: "p", DB: db, DataDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		f(b)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	kept := func(b *bot.Bot, room id.RoomID, want ...string) {
		t.Helper()
		got, err := b.KeptDelayed(t.Context(), room)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%q %v, want %q", got, err, want)
		}
	}
	with(func(b *bot.Bot) {
		for i := range 3 {
			for range 2 {
				if err := b.KeepDelayed(t.Context(), "!a:one.example", fmt.Sprint("d", i)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := b.DropDelayed(t.Context(), "d1"); err != nil {
			t.Fatal(err)
		}
		if err := b.DropDelayed(t.Context(), "unknown"); err != nil {
			t.Fatal(err)
		}
		kept(b, "!a:one.example", "d0", "d2")
	})
	with(func(b *bot.Bot) { // another run
		kept(b, "!a:one.example", "d0", "d2")
		kept(b, "!b:one.example")
		for i := range 100 {
			if err := b.KeepDelayed(t.Context(), "!b:one.example", fmt.Sprint("e", i)); err != nil {
				t.Fatal(err)
			}
		}
		kept(b, "!a:one.example", "d0", "d2")
		kept(b, "!b:one.example", "e92", "e93", "e94", "e95", "e96", "e97", "e98", "e99")
	})
}

package membership_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/rtc/membership"
	"multifactorymodel.org/ewindow/migrations"
)

// TestDelayedLeaves: they outlast the program, and only the latest ones of a room are kept.
func TestDelayedLeaves(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kiosk.db")
	with := func(f func(l membership.DelayedLeaves)) {
		t.Helper()
		db, err := migrations.OpenKiosk(t.Context(), path, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		f(membership.DelayedLeaves{DB: db})
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	kept := func(l membership.DelayedLeaves, room id.RoomID, want ...string) {
		t.Helper()
		got, err := l.Kept(t.Context(), room)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%q %v, want %q", got, err, want)
		}
	}
	with(func(l membership.DelayedLeaves) {
		for i := range 3 {
			for range 2 {
				if err := l.Keep(t.Context(), "!a:one.example", fmt.Sprint("d", i)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := l.Drop(t.Context(), "d1"); err != nil {
			t.Fatal(err)
		}
		if err := l.Drop(t.Context(), "unknown"); err != nil {
			t.Fatal(err)
		}
		kept(l, "!a:one.example", "d0", "d2")
	})
	with(func(l membership.DelayedLeaves) { // another run
		kept(l, "!a:one.example", "d0", "d2")
		kept(l, "!b:one.example")
		for i := range 100 {
			if err := l.Keep(t.Context(), "!b:one.example", fmt.Sprint("e", i)); err != nil {
				t.Fatal(err)
			}
		}
		kept(l, "!a:one.example", "d0", "d2")
		kept(l, "!b:one.example", "e92", "e93", "e94", "e95", "e96", "e97", "e98", "e99")
	})
}

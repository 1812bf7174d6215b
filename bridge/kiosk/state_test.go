package kiosk

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/bot/directory"
)

// TestStateGolden compares the whole state message, byte by byte, with the one that the page was written for.
func TestStateGolden(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	past := now.Add(-time.Second)
	for name, state := range map[string]State{
		"full": fullState(now), "empty": {},
		"nil_lists": {CountUntil: past, Peer: &Person{Tile: -1}, Knock: &Knock{}, Ring: &Ring{}, Missed: []Missed{{}}, Windows: []directory.Window{{}}, Fault: &Fault{}},
	} {
		m := state.message(now)
		m.Page = "abc"
		want, err := os.ReadFile(filepath.Join("testdata", "state_"+name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(encode(m)) + "\n"; got != string(want) {
			t.Errorf("%s state is sent as\n%s, want\n%s", name, got, want)
		}
	}
}

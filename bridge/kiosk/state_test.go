package kiosk

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"go.mau.fi/util/jsontime"

	"multifactorymodel.org/ewindow/bot/directory"
)

// TestStateGolden compares the whole state message, byte by byte, with the one that the page was written for.
func TestStateGolden(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	past := now.Add(-time.Second)
	for name, state := range map[string]State{
		"full": fullState(now), "empty": {},
		"nil_lists": {CountUntil: past, Peer: &Person{Tile: -1}, Identity: &Identity{}, Verify: &Verify{}, Knock: &Knock{}, Ring: &Ring{}, Missed: []Missed{{}}, Windows: []directory.Window{{}}, Fault: &Fault{}},
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

// TestStateEqual: two states are equal if their messages are. Each field of the full state makes a difference, as far as it is sent.
func TestStateEqual(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	full := reflect.ValueOf(fullState(now))
	for i := range full.NumField() {
		name := full.Type().Field(i).Name
		other := fullState(now)
		reflect.ValueOf(&other).Elem().Field(i).SetZero()
		if equal := other.Equal(fullState(now)); equal != (name == "CountMS") {
			t.Errorf("without %s: equal is %t", name, equal)
		}
	}
	lists := State{Guests: List[Person]{}, Windows: List[directory.Window]{}, Knock: &Knock{}}
	if none := (State{Knock: &Knock{Others: List[string]{}}}); !none.Equal(lists) {
		t.Error("an empty list is not equal to none")
	}
	moved := fullState(now)
	moved.Windows = List[directory.Window]{moved.Windows[0]}
	moved.Windows[0].Facing, moved.Windows[0].Kiosk = "!c:d", "@kiosk:d"
	moved.Since = jsontime.UM(moved.Since.In(time.FixedZone("elsewhere", 3600)).Add(time.Microsecond))
	if !moved.Equal(fullState(now)) {
		t.Error("what is not sent makes a difference")
	}
	moved.Windows[0].Name = "Werk"
	if moved.Equal(fullState(now)) {
		t.Error("the name of a window makes no difference")
	}
}

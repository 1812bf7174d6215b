package directory

import (
	"encoding/json"
	"testing"
	"time"

	"go.mau.fi/util/jsontime"
)

func TestParseShutter(t *testing.T) {
	for text, want := range map[string]Shutter{"open": Open, "ajar": Ajar, "shut": Shut, "": Shut, "Open": Shut, "half": Shut} {
		if got := ParseShutter(text); got != want {
			t.Errorf("%q is read as %q, want %q", text, got, want)
		}
		if valid := Shutter(text).Valid(); valid != (string(want) == text) {
			t.Errorf("%q: valid %t", text, valid)
		}
	}
}

func TestWindowJSON(t *testing.T) {
	w := Window{
		Room: "!a:b", Kiosk: "@kiosk:b", Name: "Rosenwerk", City: "Dresden", Shutter: Ajar, Since: jsontime.UMInt(1_700_000_000_000),
		Facing: "!c:d", Joined: true,
	}
	for _, c := range []struct {
		window Window
		want   string
	}{
		{w, `{"room":"!a:b","name":"Rosenwerk","city":"Dresden","shutter":"ajar","since":1700000000000,"joined":true}`},
		{Window{Gone: jsontime.UMInt(5)}, `{"room":"","name":"","city":"","shutter":"","since":0,"gone":5,"joined":false}`},
		{Window{}, `{"room":"","name":"","city":"","shutter":"","since":0,"joined":false}`},
	} {
		if got, err := json.Marshal(c.window); err != nil || string(got) != c.want {
			t.Errorf("%s, %v; want %s", got, err, c.want)
		}
	}
}

func TestWindowEqual(t *testing.T) {
	w := Window{Room: "!a:b", Since: jsontime.UMInt(1_700_000_000_000)}
	same := w
	same.Since = jsontime.UM(w.Since.In(time.FixedZone("elsewhere", 3600)))
	if !w.Equal(same) {
		t.Error("the same moment in another time zone counts as another state")
	}
	later := w
	later.Since = jsontime.UM(w.Since.Add(time.Millisecond))
	named := w
	named.Name = "Rosenwerk"
	if w.Equal(later) || w.Equal(named) {
		t.Error("different windows are equal")
	}
}

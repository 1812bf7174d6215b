package powerlevels

import (
	"encoding/json"
	"testing"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

func FuzzMerge(f *testing.F) {
	f.Add([]byte(`{"users":{"@bot:a":100},"events":{"m.call.member":50},"ban":50}`))
	f.Add([]byte(`{"users":{"@away:a":50,"@admin:a":0,"@other:a":50}}`))
	f.Add([]byte(`{"users":[],"events":"none"}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`null`))
	want := Window("@bot:a", []id.UserID{"@admin:a"}, event.Type{Type: "example.window"})
	f.Fuzz(func(t *testing.T, data []byte) {
		merged, changed := Merge(data, want, true)
		if !changed {
			return
		}
		if users := merged["users"].(map[string]any); len(users) != len(want.Users) {
			t.Fatalf("levels of %v", users)
		}
		out, err := json.Marshal(merged)
		if err != nil {
			t.Fatal(err)
		}
		if _, again := Merge(out, want, true); again {
			t.Fatalf("%s would be changed for ever, from %s", out, data)
		}
	})
}

package strictjson

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]bool{
		`{}`: true, ` {"a":1}`: true, `{"a":`: false, `null`: false, `[]`: false, `"a"`: false, ``: false, `{"a":"` + "\xff" + `"}`: false,
		`{"a":"` + strings.Repeat("x", MaxContent) + `"}`: false,
	} {
		if o, ok := Parse([]byte(text)); ok != want || (o != nil) != want {
			t.Errorf("%.20q: %t", text, ok)
		}
	}
}

// TestMembers reads one member as each type. Only the right one succeeds, and names are compared exactly.
func TestMembers(t *testing.T) {
	for text, want := range map[string]string{
		`"x"`: "text", `""`: "text", `"xxxx"`: "", `1.5`: "number", `-1`: "number", `1e400`: "", `0`: "number integer", `9`: "number integer", `10`: "number",
		`true`: "boolean", `false`: "boolean", `{}`: "object", `[]`: "list", `[1,2]`: "list", `[1,2,3]`: "", `null`: "",
	} {
		o := Object{"a": json.RawMessage(text), "A": json.RawMessage(`"other"`)}
		var got []string
		add := func(name string, ok bool) {
			if ok {
				got = append(got, name)
			}
		}
		_, ok := o.Text("a", 3)
		add("text", ok)
		_, ok = o.Number("a")
		add("number", ok)
		_, ok = o.Integer("a", 9)
		add("integer", ok)
		_, ok = o.Boolean("a")
		add("boolean", ok)
		_, ok = o.Object("a")
		add("object", ok)
		_, ok = o.ListOf("a", 2)
		add("list", ok)
		if strings.Join(got, " ") != want {
			t.Errorf("%s is read as %q, want %q", text, got, want)
		}
		if !o.Has("a") || o.Has("b") {
			t.Errorf("%s: Has is wrong", text)
		}
	}
	long := Object{"a": json.RawMessage("[" + strings.Repeat("1,", maxList) + "1]")}
	if _, ok := long.List("a"); ok {
		t.Error("a list over the limit is read")
	}
}

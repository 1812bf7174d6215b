package window

import (
	"fmt"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/bot/directory"
)

// unchanged fails the test if two plans for one moment differ, or if reading or writing a plan changes the rules.
func unchanged(t *testing.T, r *Rules, now time.Time) {
	t.Helper()
	before := snapshot(r)
	first := r.Plan(now)
	second := r.Plan(now)
	if !reflect.DeepEqual(first, second) {
		t.Fatalf("two plans for one moment:\n%+v\n%+v", first, second)
	}
	for i := range second.Members {
		second.Members[i].Identity = "changed"
	}
	for i := range second.Named {
		second.Named[i].Identity = "changed"
	}
	for i := range second.Strangers {
		second.Strangers[i] = "changed"
	}
	for i := range second.View.Windows {
		second.View.Windows[i].Room = "changed"
	}
	for _, people := range [][]Person{second.View.Guests, second.View.Withheld, second.View.Renewed, second.View.Unseen, second.View.Allowed, second.View.Declined} {
		for i := range people {
			people[i].User = "changed"
		}
	}
	for i := range second.View.Missed {
		second.View.Missed[i].Who.User = "changed"
	}
	if p := second.View.Peer; p != nil {
		p.User = "changed"
	}
	if c := second.View.Comparison; c != nil {
		c.Symbols[0], c.Names[0] = "changed", "changed"
	}
	if i := second.View.Identity; i != nil {
		i.Key = "changed"
	}
	if k := second.View.Knock; k != nil {
		k.Who.User = "changed"
	}
	if after := snapshot(r); !reflect.DeepEqual(before, after) {
		t.Fatalf("reading a plan changes the rules:\n%+v\n%+v", before, after)
	}
	if third := r.Plan(now); !reflect.DeepEqual(first, third) {
		t.Fatalf("changing a plan changes the rules:\n%+v\n%+v", first, third)
	}
}

// snapshot is a deep copy of everything that the rules know.
func snapshot(r *Rules) any { return deepCopy(reflect.ValueOf(r).Elem()) }

// deepCopy turns a value into one that shares nothing with it. Unexported fields are read as well.
func deepCopy(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return deepCopy(v.Elem())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return [2]any{v.Field(0).Uint(), v.Field(1).Int()} // without the location, which all times share
		}
		var out []any
		for i := range v.NumField() {
			out = append(out, deepCopy(v.Field(i)))
		}
		return out
	case reflect.Slice:
		out := []any{}
		for i := range v.Len() {
			out = append(out, deepCopy(v.Index(i)))
		}
		return out
	case reflect.Map:
		out := make(map[string]any)
		for _, key := range v.MapKeys() {
			out[fmt.Sprint(deepCopy(key))] = deepCopy(v.MapIndex(key))
		}
		return out
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return v.Bool()
	case reflect.Int, reflect.Int64:
		return v.Int()
	case reflect.Uint8, reflect.Uint64:
		return v.Uint()
	}
	panic("a field of a kind that no snapshot has had: " + v.Kind().String())
}

// TestPlanChangesNothing: reading a plan, and writing into it, has no effect on the rules.
func TestPlanChangesNothing(t *testing.T) {
	begin := map[string]func(b *bench){
		"missed":   func(b *bench) { b.m.SetShutter(b.now, directory.Shut); b.step(time.Minute); b.call(guest) },
		"stale":    func(b *bench) { b.see(guest); b.stale(guest) },
		"lost":     func(b *bench) { b.windows(b.after()); b.see(kioskUser(munich)); b.show(munich, false) },
		"identity": func(b *bench) { b.windows(b.longer()); b.m.SetIdentity(kioskUser(munich), "new") },
		"compares": func(b *bench) { b.m.SetComparison(guest, []string{"🐶"}, []string{"Dog"}) },
		"renewed":  func(b *bench) { b.see(guest); b.m.SetIdentity(guest, "new"); b.m.Withheld(b.now, b.last.Visit, guest) },
		"unseen":   func(b *bench) { b.see(guest); b.call(ben); b.step(PictureBudget) },
		"allowed":  func(b *bench) { b.m.AllowUnseenGuests(); b.see(guest); b.call(ben); b.step(PictureBudget) },
		"withheld": func(b *bench) {
			b.call(guest, ben)
			b.m.Withheld(b.now, b.last.Visit, guest)
			b.step(0)
		},
	}
	for name, s := range sections {
		begin[name] = func(b *bench) { b.m.SetShutter(b.now, directory.Ajar); s.begin(b) }
	}
	for name, f := range begin {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, windowOf(munich, directory.Shut, epoch))
			f(b)
			b.step(0)
			unchanged(t, b.m, b.now)
		})
	}
}

// TestImports: the rules do no input or output, and import no package for media or calls.
func TestImports(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	allowed := []string{"cmp", "crypto/sha256", "encoding/base32", "maps", "slices", "strings", "time", "maunium.net/go/mautrix/id", "multifactorymodel.org/ewindow/bot/directory",
		"multifactorymodel.org/ewindow/bridge/notice", "multifactorymodel.org/ewindow/bridge/window/redial", "multifactorymodel.org/ewindow/bridge/window/strangers",
		"multifactorymodel.org/ewindow/bridge/window/unseen"}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			if path := strings.Trim(spec.Path.Value, `"`); !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}

// TestNothingCanBeWritten: what the rules know is reached by their methods only.
func TestNothingCanBeWritten(t *testing.T) {
	rules := reflect.TypeFor[Rules]()
	for i := range rules.NumField() {
		if f := rules.Field(i); f.IsExported() {
			t.Errorf("%s can be written from outside", f.Name)
		}
	}
}

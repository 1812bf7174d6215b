package metrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/network"
	"multifactorymodel.org/ewindow/bot/rtc"
	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/callmedia"
	"multifactorymodel.org/ewindow/callmedia/focus"
	"multifactorymodel.org/ewindow/turnserver"
)

// scrape asks for metrics as Prometheus does.
func scrape(parts ...prometheus.Collector) string {
	w := httptest.NewRecorder()
	handler(parts...).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

// setNumbers gives each number in v another value, from 700001 on, and returns the fields' names by their values. Times stay zero.
func setNumbers(v reflect.Value, name string, names map[int]string) {
	next := 700_001 + len(names)
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
	case v.Type() == reflect.TypeFor[time.Duration]():
		v.SetInt(int64(next) * int64(time.Second))
		names[next] = name
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			setNumbers(v.Field(i), name+"."+v.Type().Field(i).Name, names)
		}
	case v.Kind() == reflect.Map:
		for _, key := range v.MapKeys() {
			value := reflect.New(v.Type().Elem()).Elem()
			setNumbers(value, name+"."+key.String(), names)
			v.SetMapIndex(key, value)
		}
	default:
		v.Set(reflect.ValueOf(next).Convert(v.Type()))
		names[next] = name
	}
}

// complete checks that a collector shows each number of a part's counters once, also those that are added later.
func complete[S any](t *testing.T, counters S, collector func(func() S) prometheus.Collector) string {
	t.Helper()
	names := make(map[int]string)
	setNumbers(reflect.ValueOf(&counters).Elem(), reflect.TypeFor[S]().String(), names)
	shown := scrape(collector(func() S { return counters }))
	if len(names) == 0 {
		t.Fatalf("%T has no numbers", counters)
	}
	for value, name := range names {
		if n := strings.Count(shown, fmt.Sprintf(" %d\n", value)); n != 1 {
			t.Errorf("%s is shown %d times", name, n)
		}
	}
	return shown
}

func TestComplete(t *testing.T) {
	complete(t, focus.Stats{}, Focus)
	complete(t, rtc.Stats{}, Calls)
	complete(t, network.Stats{}, Network)
	complete(t, kiosk.Counters{}, Page)
	complete(t, callmedia.Stats{}, Media)
	dropped := map[string]uint64{
		bot.DropCleartext: 0, bot.DropUndecryptable: 0, bot.DropUnknownDevice: 0, bot.DropUntrusted: 0, bot.DropMalformed: 0, bot.DropUnhandled: 0,
		bot.DropTooMany: 0, bot.DropStranger: 0,
	}
	complete(t, bot.Stats{Dropped: dropped}, Bot)
	shown := complete(t, turnserver.Counters{}, Relay)
	for _, want := range []string{
		"# TYPE ewindow_turn_allocations gauge", "# TYPE ewindow_turn_refused_total counter", `ewindow_turn_refused_total{reason="login"}`,
		`ewindow_turn_relayed_bytes_total{direction="to_peers"}`, "go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is missing in\n%s", want, shown)
		}
	}
}

// TestNames checks the metrics of all parts together: Prometheus accepts their names, each has a help text, and no name exists twice.
func TestNames(t *testing.T) {
	zero := scrape(
		Relay(func() (c turnserver.Counters) { return c }), Focus(func() (s focus.Stats) { return s }), Bot(func() (s bot.Stats) { return s }),
		Calls(func() (s rtc.Stats) { return s }), Media(func() (s callmedia.Stats) { return s }), Page(func() (c kiosk.Counters) { return c }),
		Network(func() (s network.Stats) { return s }),
	)
	ours := 0
	for _, line := range strings.Split(zero, "\n") {
		if name, ok := strings.CutPrefix(line, "# TYPE ewindow_"); ok {
			ours++
			if strings.HasSuffix(name, " counter") != strings.HasSuffix(name, "_total counter") {
				t.Errorf("%s: a counter's name ends in _total, and no other", name)
			}
		}
	}
	if ours < 30 {
		t.Errorf("only %d names of ours in\n%s", ours, zero)
	}
}

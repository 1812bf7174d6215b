package metrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"multifactorymodel.org/ewindow/turnserver"
)

// numbered returns counters whose fields all have different values, from 700001 on.
func numbered[S any]() (s S) {
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		v.Field(i).Set(reflect.ValueOf(700_001 + i).Convert(v.Field(i).Type()))
	}
	return s
}

// text asks for a collector's metrics as Prometheus does.
func text(parts ...prometheus.Collector) string {
	w := httptest.NewRecorder()
	handler(parts...).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

// complete demands that each counter is shown once, those that are yet to be made included.
func complete[S any](t *testing.T, collector func(func() S) prometheus.Collector) string {
	t.Helper()
	shown := text(collector(numbered[S]))
	fields := reflect.TypeFor[S]()
	for i := range fields.NumField() {
		if n := strings.Count(shown, fmt.Sprintf(" %d\n", 700_001+i)); n != 1 {
			t.Errorf("%s is shown %d times", fields.Field(i).Name, n)
		}
	}
	return shown
}

func TestRelay(t *testing.T) {
	shown := complete[turnserver.Counters](t, Relay)
	for _, want := range []string{
		"# TYPE ewindow_turn_allocations gauge", "# TYPE ewindow_turn_refused_total counter", `ewindow_turn_refused_total{reason="login"}`,
		`ewindow_turn_relayed_bytes_total{direction="to_peers"}`, "go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is missing in\n%s", want, shown)
		}
	}
}

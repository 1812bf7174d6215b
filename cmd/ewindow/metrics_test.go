package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"multifactorymodel.org/ewindow/turnserver"
)

// TestRelayMetrics demands that each of the relay's counters is shown, those that are yet to be made included.
func TestRelayMetrics(t *testing.T) {
	var c turnserver.Counters
	v := reflect.ValueOf(&c).Elem()
	for i := range v.NumField() {
		number := reflect.ValueOf(700_001 + i)
		v.Field(i).Set(number.Convert(v.Field(i).Type()))
	}
	w := httptest.NewRecorder()
	metrics(func() turnserver.Counters { return c }).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for i := range v.NumField() {
		if n := strings.Count(w.Body.String(), fmt.Sprintf(" %d\n", 700_001+i)); n != 1 {
			t.Errorf("%s is shown %d times", v.Type().Field(i).Name, n)
		}
	}
	for _, want := range []string{
		"# TYPE ewindow_turn_allocations gauge", "# TYPE ewindow_turn_refused_total counter", `ewindow_turn_refused_total{reason="login"}`,
		`ewindow_turn_relayed_bytes_total{direction="to_peers"}`, "go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%q is missing in\n%s", want, w.Body)
		}
	}
}

// TestMetricsServed asks a running relay, and a hub without one.
func TestMetricsServed(t *testing.T) {
	get := func(port int) string {
		t.Helper()
		answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%s, %v", answer.Status, err)
		}
		return string(text)
	}
	tcp, port := freePort(t), freePort(t)
	path := write(t, fmt.Sprintf("metrics: {listen: \"127.0.0.1:%d\"}\nhub: {turnserver: {enabled: true, listen: [\"tcp://127.0.0.1:%d\"], public_ip: 127.0.0.1, "+
		"secret: %s, allowed_peers: [127.0.0.1], relay_ports: \"0\"}}\n", port, tcp, turnSecret))
	printed, stop := background(t, "turn", "-c", path)
	await(t, printed, "Metrics are served")
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", tcp))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := allocate(t, conn); err != nil {
		t.Fatal(err)
	}
	if text := get(port); !strings.Contains(text, "ewindow_turn_allocations_created_total 1\n") || strings.Contains(text, turnSecret) {
		t.Errorf("the relay's metrics:\n%s", text)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, printed)
	}

	printed, stop = background(t, "hub", "-c", write(t, fmt.Sprintf("metrics: {listen: \"127.0.0.1:%d\"}\n", port)+fmt.Sprintf(externalFocus, "127.0.0.1:0")))
	await(t, printed, "The hub is up")
	if text := get(port); !strings.Contains(text, "go_goroutines ") || strings.Contains(text, "ewindow_turn_") {
		t.Errorf("the metrics of a hub without a relay:\n%s", text)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, printed)
	}
}

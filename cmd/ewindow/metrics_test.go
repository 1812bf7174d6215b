package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestMetricsServed asks a relay that runs alone, a hub without a relay, and a kiosk whose homeserver does not answer.
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
	printed.Await(t, patient, "Metrics are served")
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
	printed.Await(t, patient, "The hub is up")
	if text := get(port); !strings.Contains(text, "go_goroutines ") || strings.Contains(text, "ewindow_turn_") ||
		!strings.Contains(text, `ewindow_focus_tokens_total{access="full"} 0`) {
		t.Errorf("the metrics of a hub without a relay:\n%s", text)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, printed)
	}

	page := freePort(t)
	printed, stop = background(t, "kiosk", "-c", write(t, kioskConfig(fmt.Sprintf("metrics: {listen: \"127.0.0.1:%d\"}\nkiosk: {listen: \"127.0.0.1:%d\"}\n", port, page))))
	printed.Await(t, patient, "Metrics are served")
	request, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", page), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "elsewhere.example.org"
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	text := get(port)
	for _, want := range []string{
		"ewindow_bot_sync_responses_total 0\n", `ewindow_rtc_invalid_total{kind="membership"} 0`, `ewindow_media_frames_total{direction="sent"} 0`,
		`ewindow_page_refused_total{reason="foreign_or_too_many"} 1`, "go_goroutines ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in the metrics of a kiosk:\n%s", want, text)
		}
	}
	if strings.Contains(text, "very secret") {
		t.Error("the password is in the metrics")
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, printed)
	}
}

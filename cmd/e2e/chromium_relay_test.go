//go:build full

package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// relayOnly lets a window's media through the TURN relay alone, and starts its program anew with that.
func (n *demoNetwork) relayOnly(i int) {
	n.t.Helper()
	path := filepath.Join(n.folder, strings.ToLower(n.Windows[i].Name), "config.yaml")
	data, err := os.ReadFile(path)
	if err != nil {
		n.t.Fatal(err)
	}
	const before = "\n  allow_loopback: true\n"
	text := strings.Replace(string(data), before, before+"  force_relay: true\n", 1)
	if text == string(data) {
		n.t.Fatalf("nothing to change in %s", data)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.kill(n.kiosk(i))
}

// TestRelayed lets two windows see and hear each other through the TURN relay alone.
func TestRelayed(t *testing.T) {
	n := startDemo(t, t.TempDir())
	n.await("know each other", 60*time.Second)
	for i := range n.Windows {
		n.relayOnly(i)
	}
	munich, dresden := n.look(0, munichSource, 640, 360), n.look(1, dresdenSource, 640, 360)
	n.open(munich)
	n.open(dresden)
	begun := time.Now()
	munich.awaitMoving("blue", 60*time.Second)
	dresden.awaitMoving("red", 60*time.Second)
	t.Logf("both see each other move %.1f s after the second window opened", time.Since(begun).Seconds())
	munich.awaitTone(dresdenSource.tone, 20*time.Second)
	dresden.awaitTone(munichSource.tone, 20*time.Second)
	log, err := os.ReadFile(filepath.Join(n.folder, "munich", "hub.log")) // its LiveKit and relay serve both
	if made := strings.Count(string(log), "Allocation made"); err != nil || made < 4 {
		t.Errorf("%d allocations were made, %v", made, err)
	}
}

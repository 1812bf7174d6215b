//go:build full

package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// relayOnly sets media.force_relay in a window's configuration and restarts its kiosk.
func (n *demoNetwork) relayOnly(i int) {
	n.t.Helper()
	const before = "\n  allow_loopback: true\n"
	n.configure(i, func(text string) string { return strings.Replace(text, before, before+"  force_relay: true\n", 1) })
	n.kill(n.kiosk(i))
}

// TestRelayed checks that two windows see and hear each other when all their media goes through the TURN relay.
func TestRelayed(t *testing.T) {
	n := startDemo(t, t.TempDir())
	n.await("know each other", 60*time.Second)
	for i := range n.Windows {
		n.relayOnly(i)
	}
	munich, dresden := n.openPage(0, munichSource, 640, 360), n.openPage(1, dresdenSource, 640, 360)
	n.open(munich)
	n.open(dresden)
	begun := time.Now()
	munich.awaitMoving("blue", 60*time.Second)
	dresden.awaitMoving("red", 60*time.Second)
	t.Logf("both windows show moving pictures %.1f s after the second one opened", time.Since(begun).Seconds())
	munich.awaitTone(dresdenSource.tone, 20*time.Second)
	dresden.awaitTone(munichSource.tone, 20*time.Second)
	log, err := os.ReadFile(filepath.Join(n.folder, "munich", "hub.log")) // Munich's hub has LiveKit and the relay for both windows
	if made := strings.Count(string(log), "Allocation made"); err != nil || made < 4 {
		t.Errorf("%d allocations were made, %v", made, err)
	}
}

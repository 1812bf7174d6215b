//go:build full

package e2e_test

import (
	"path/filepath"
	"testing"
	"time"
)

// TestTwoFoci gives each homeserver its own SFU. Each window publishes to its own SFU and subscribes at the other's. When the test kills an SFU,
// both windows see each other again by themselves.
func TestTwoFoci(t *testing.T) {
	n := startDemo(t, t.TempDir(), "--two-foci", "--open")
	n.await("know each other", 60*time.Second)
	munich, dresden := n.openPage(0, munichSource, 640, 360), n.openPage(1, dresdenSource, 640, 360)
	both := func() {
		t.Helper()
		munich.awaitMoving("blue", 60*time.Second)
		dresden.awaitMoving("red", 60*time.Second)
	}
	both()
	munich.awaitTone(dresdenSource.tone, 20*time.Second)
	dresden.awaitTone(munichSource.tone, 20*time.Second)
	if pids := findProcesses("livekit-server", n.folder); len(pids) != 2 {
		t.Fatalf("%d SFUs run, want one for each window", len(pids))
	}
	for _, p := range n.Windows {
		begun := time.Now()
		n.kill([]string{"livekit-server", filepath.Join(n.folder, p.Username)})
		both()
		t.Logf("%s's SFU was killed; both windows show moving pictures again %.1f s later", p.Name, time.Since(begun).Seconds())
	}
}

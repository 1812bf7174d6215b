//go:build full

package e2e_test

import (
	"path/filepath"
	"testing"
	"time"
)

// TestTwoFoci gives each homeserver an SFU of its own: each window publishes at its own and subscribes at the other's. When one SFU is killed
// its side is lost, and comes back by itself.
func TestTwoFoci(t *testing.T) {
	n := startDemo(t, t.TempDir(), "--two-foci", "--open")
	n.await("know each other", 60*time.Second)
	munich, dresden := n.look(0, munichSource, 640, 360), n.look(1, dresdenSource, 640, 360)
	both := func() {
		t.Helper()
		munich.awaitMoving("blue", 60*time.Second)
		dresden.awaitMoving("red", 60*time.Second)
	}
	both()
	munich.awaitTone(dresdenSource.tone, 20*time.Second)
	dresden.awaitTone(munichSource.tone, 20*time.Second)
	if pids := find("livekit-server", n.folder); len(pids) != 2 {
		t.Fatalf("%d SFUs run, want one for each window", len(pids))
	}
	for _, p := range n.Windows {
		begun := time.Now()
		n.kill([]string{"livekit-server", filepath.Join(n.folder, p.Username)})
		both()
		t.Logf("%s's SFU was killed; both see each other move again %.1f s later", p.Name, time.Since(begun).Seconds())
	}
}

//go:build full

package turn_test

import (
	"fmt"
	"testing"

	"multifactorymodel.org/ewindow/cmd/e2e/browser"
	"multifactorymodel.org/ewindow/cmd/e2e/turn"
)

// TestChromium lets Chromium send through our server only, over each transport.
func TestChromium(t *testing.T) {
	browser.Need(t)
	s := turn.StartOurs(t)
	page := browser.Start(t, "about:blank", browser.Options{Flags: []string{"--ignore-certificate-errors"}})
	for _, url := range []string{
		fmt.Sprintf("turn:127.0.0.1:%d?transport=udp", s.Port), fmt.Sprintf("turn:127.0.0.1:%d?transport=tcp", s.Port),
		fmt.Sprintf("turns:127.0.0.1:%d?transport=tcp", s.TLSPort),
	} {
		username, password := s.Credentials("anna")
		turn.Chromium(t, page, url, username, password)
	}
}

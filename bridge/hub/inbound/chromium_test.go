//go:build full

package inbound_test

import (
	"fmt"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/browser"
	"multifactorymodel.org/ewindow/cmd/e2e/turn"
	"multifactorymodel.org/ewindow/turnserver"
)

// TestChromium lets Chromium relay through the HTTPS port: by the relay's name, by the hub's name, and by an address, for which it sends no
// SNI.
func TestChromium(t *testing.T) {
	browser.Need(t)
	h := startHub(t)
	page := browser.Start(t, "about:blank", browser.Options{Flags: []string{
		"--ignore-certificate-errors", fmt.Sprintf("--host-resolver-rules=MAP %s 127.0.0.1, MAP %s 127.0.0.1", turnName, webName),
	}})
	for _, host := range []string{turnName, webName, "127.0.0.1"} {
		username, password := turnserver.Credentials(secret, "anna", time.Hour)
		turn.Chromium(t, page, fmt.Sprintf("turns:%s:%d?transport=tcp", host, h.addr.Port), username, password)
	}
}

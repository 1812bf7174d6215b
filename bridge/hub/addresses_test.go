package hub

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestNamedIPs demands that only addresses count that others can reach, and that a name that is no more where it was is logged once.
func TestNamedIPs(t *testing.T) {
	for url, want := range map[string]int{"": 0, "https://127.0.0.1": 0, "https://localhost": 0, "https://192.0.2.7:8448": 1, "https://[2001:db8::1]": 0} {
		if got := namedIPs(t.Context(), &Config{PublicURL: url}); len(got) != want {
			t.Errorf("%q leads to %s", url, got)
		}
	}
	var log rig.Output
	h := &hub{cfg: Config{PublicURL: "https://192.0.2.7", Log: zerolog.New(&log)}}
	look := func(public string, before bool) bool {
		return h.leadsTo(context.Background(), netip.MustParseAddr(public), before)
	}
	if !look("192.0.2.7", false) || look("192.0.2.8", true) || look("192.0.2.8", false) {
		t.Error("it is not known where the name leads")
	}
	if n := strings.Count(log.String(), "leads elsewhere now"); n != 1 {
		t.Errorf("the log says it %d times: %s", n, log.String())
	}
}

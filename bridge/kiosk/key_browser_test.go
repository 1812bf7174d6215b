//go:build full

package kiosk_test

import (
	"path/filepath"
	"testing"

	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/cmd/e2e/browser"
)

// TestPageFile opens the page as the kiosk's session does, and also without the key and with a wrong one.
func TestPageFile(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	open := func(address string) *screen { return &screen{browser.Start(t, address, browser.Options{}), t} }
	own := open("file://" + filepath.Join(r.folder, kiosk.PageFile))
	own.until("the page of the file", func(s snapshot) bool { return s.Connected && s.Screen == "shut" })
	for _, address := range []string{r.url() + "/", kiosk.Address(r.Addr().String(), "ANOTHERKEYANOTHERKEYANOTHER")} {
		other := open(address)
		other.until("the sentence about the key", func(s snapshot) bool { return !s.Connected && s.Screen == "fault" })
		other.Close()
	}
	if snap, err := own.snapshot(); err != nil || !snap.Connected || snap.Screen != "shut" {
		t.Errorf("the page after that: %+v, %v", snap, err)
	}
	if c := r.Counters(); c.Pages != 1 {
		t.Errorf("%+v", c)
	}
}

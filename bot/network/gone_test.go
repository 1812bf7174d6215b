//go:build full

package network_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bot/networkstate"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

var delay = regexp.MustCompile(`"delay_ms":\d+`)

// TestGone: a window without power, and one whose program has ended, are known to be gone. They are back when their kiosks are.
func TestGone(t *testing.T) {
	hs := rig.StartHomeserver(t)
	admin, space := newNetwork(t, hs)
	dresden, munich := newWindow(t, hs, "Dresden", admin.UserID), newWindow(t, hs, "Munich", admin.UserID)
	var powerless atomic.Bool
	var scheduled atomic.Int64 // how often Munich has left a sign of life
	munich.http = &http.Client{Transport: &breaker{check: func(r *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
		if powerless.Load() {
			return nil, errors.New("no power")
		}
		if !strings.Contains(r.URL.Path, "/delayed_event/"+networkstate.TypeGone.Type) {
			return send()
		}
		if scheduled.Load() == 0 {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			sooner := delay.ReplaceAll(body, []byte(`"delay_ms":2000`))
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(sooner)), int64(len(sooner))
		}
		resp, err := send()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(data)) // now the answer reaches the window, even if it ends at this moment
		powerless.Store(scheduled.Add(1) == 1)
		return resp, err
	}}}
	shows := func(gone bool) {
		t.Helper()
		rig.Eventually(t, patience, func() error {
			windows := dresden.Windows()
			if len(windows) != 1 || windows[0].Name != "Munich" || windows[0].Gone.IsZero() == gone {
				return fmt.Errorf("want gone: %t; Dresden sees %+v", gone, windows)
			}
			return nil
		})
	}
	for _, w := range []*window{dresden, munich} {
		w.start(t)
		w.SetState(directory.State{Shutter: directory.Open, Since: time.Now()})
		invite(t, admin, space, w.user)
		if w == dresden {
			w.listed(t)
		}
	}
	shows(true)
	if at := dresden.Windows()[0].Gone.Time; time.Since(at).Abs() > time.Hour {
		t.Errorf("Munich is gone since %v", at)
	}
	powerless.Store(false)
	shows(false)
	dresden.sees(t, "Munich=open")
	rig.Eventually(t, patience, func() error { return rig.Check(scheduled.Load() == 2, "another sign of life", scheduled.Load()) })
	munich.stop()
	shows(true)
	munich.start(t)
	shows(false)
	dresden.stop()
	dresden.start(t)
	shows(false)
}

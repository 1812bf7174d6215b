package bot_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// fallbackProxy is a proxy before a homeserver without fallback keys, such as Dendrite. It
// keeps the fallback keys, and gives them out as if there were no one-time keys.
type fallbackProxy struct {
	mu      sync.Mutex                 // guards what follows
	keys    map[string]json.RawMessage // the last ones that were uploaded
	uploads int
	user    id.UserID // whose keys are kept
	device  id.DeviceID
}

func (p *fallbackProxy) handler(t *testing.T, hs *rig.Homeserver) http.Handler {
	t.Helper()
	target, err := url.Parse(hs.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/keys/upload"):
			body, _ := io.ReadAll(r.Body)
			var upload struct {
				Keys map[string]json.RawMessage `json:"fallback_keys"`
			}
			if json.Unmarshal(body, &upload) == nil && len(upload.Keys) > 0 && bytes.Contains(body, []byte(p.user)) {
				p.mu.Lock()
				p.keys = upload.Keys
				p.uploads++
				p.mu.Unlock()
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		case strings.HasSuffix(r.URL.Path, "/keys/claim"):
			p.mu.Lock()
			defer p.mu.Unlock()
			_ = json.NewEncoder(w).Encode(map[string]any{
				"one_time_keys": map[id.UserID]any{p.user: map[id.DeviceID]any{p.device: p.keys}},
			})
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

// TestFallbackKey: the one-time keys of a window that is not running are used up. Others can still send to it.
func TestFallbackKey(t *testing.T) {
	hs := rig.StartHomeserver(t)
	account := rig.NewBotAccount(t, hs, "dresden")
	proxy := fallbackProxy{user: account.User}
	address := rig.Serve(t, rig.Listen(t), proxy.handler(t, hs))
	config := func(a rig.BotAccount) bot.Config {
		cfg := a.Config(t)
		cfg.HomeserverURL = address
		return cfg
	}
	dresden := config(account)
	first := newBot(t, dresden)
	stop := rig.RunBot(t, first)
	munich := newBot(t, config(rig.NewBotAccount(t, hs, "munich")))
	rig.RunBot(t, munich)
	meet(t, first, munich)
	rig.Eventually(t, limit, func() error {
		proxy.mu.Lock()
		defer proxy.mu.Unlock()
		if proxy.uploads == 0 {
			return errNothingYet
		}
		return nil
	})
	stop()
	proxy.mu.Lock()
	proxy.device = first.DeviceID()
	if len(proxy.keys) != 1 {
		t.Errorf("%d fallback keys", len(proxy.keys))
	}
	proxy.mu.Unlock()

	// mautrix checks the key's signature before it uses the key.
	if failed := munich.SendToDevice(t.Context(), testType, map[bot.Device]any{device(first): message{"hello"}}); len(failed) > 0 {
		t.Fatal(failed)
	}
	second := newBot(t, dresden)
	in := listen(second)
	rig.RunBot(t, second)
	if got := next(t, "the message", in.toDevice, nil); textOf(got.Content) != "hello" {
		t.Error(got)
	}
	deliver(t, munich, second, in, "again")
}

//go:build full

package browser_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/browser"
)

// TestPage checks values and errors of expressions, the console, a key press, a screenshot and the end of both browsers.
func TestPage(t *testing.T) {
	t.Run("Chromium", func(t *testing.T) { testPage(t, browser.Options{}) })
	t.Run("Firefox", func(t *testing.T) { testPage(t, browser.Options{Firefox: true}) })
}

func testPage(t *testing.T, o browser.Options) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<!doctype html><body><script>addEventListener("keydown", e => document.title = e.key); console.warn("said", early)</script>`))
	}))
	defer server.Close()
	o.Script = "window.early = 7"
	p := browser.Start(t, server.URL, o)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for ready := false; !ready; {
		if err := p.Eval(ctx, `location.protocol === "http:" && document.readyState === "complete"`, &ready); err != nil {
			t.Fatal(err)
		}
	}
	var sum int
	if err := p.Eval(ctx, "Promise.resolve(40 + 2)", &sum); err != nil || sum != 42 {
		t.Errorf("40 + 2 is %d, %v", sum, err)
	}
	if err := p.Eval(ctx, `Promise.reject(new Error("oh"))`, nil); err == nil || !strings.Contains(err.Error(), "oh") {
		t.Errorf("an error in the page gives %v", err)
	}
	if said := strings.Join(p.Console(), " "); !strings.Contains(said, "said") || !strings.Contains(said, "7") {
		t.Errorf("the console has %s", said)
	}
	if !o.Firefox {
		if err := p.Press(ctx, "Escape", "Escape", 27); err != nil {
			t.Fatal(err)
		}
		var title string
		if err := p.Eval(ctx, "document.title", &title); err != nil || title != "Escape" {
			t.Errorf("the page received the key %q, %v", title, err)
		}
	}
	shot := filepath.Join(t.TempDir(), "shot.png")
	if err := p.Screenshot(ctx, shot); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(shot); err != nil || info.Size() < 100 {
		t.Errorf("the screenshot is %v, %v", info, err)
	}
	p.Kill()
	if err := p.Eval(ctx, "1", nil); err == nil {
		t.Error("a browser that was killed still answers")
	}
}

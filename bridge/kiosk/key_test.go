package kiosk_test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestKey acts as another program of the kiosk's PC: it wants to be the page, or to watch it.
func TestKey(t *testing.T) {
	w := newServed(t, nil)
	key := w.key(t)
	page := dial(t, w, helloPage)
	page.expect("state")

	wrong := strings.Repeat("A", len(key))
	for name, offer := range map[string][]string{
		"nothing":         nil,
		"ours alone":      {"ewindow"},
		"an empty key":    {"ewindow", "ewindow.key."},
		"another key":     {"ewindow", "ewindow.key." + wrong},
		"half of the key": {"ewindow", "ewindow.key." + key[:len(key)/2]},
		"a longer key":    {"ewindow", "ewindow.key." + key + "A"},
		"no prefix":       {"ewindow", key},
		"a second key":    {"ewindow", "ewindow.key." + wrong, "ewindow.key." + key},
	} {
		conn, response, err := websocket.Dial(t.Context(), "ws://"+w.Addr().String()+"/ws", &websocket.DialOptions{
			HTTPHeader: http.Header{"Origin": {w.url()}, "Sec-Fetch-Site": {"same-origin"}}, Subprotocols: offer,
		})
		if err == nil {
			_ = conn.CloseNow()
		}
		if response == nil || response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, path := range []string{"/ws?key=" + key, "/ws?ewindow.key." + key} {
		response, err := http.Get(w.url() + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("the key in the address: %s", response.Status)
		}
	}
	// Neither took the page over, nor used up a place.
	if c := w.Counters(); c.Pages != 1 || c.Observers != 0 || c.Refused != 10 {
		t.Errorf("%+v", c)
	}
	w.expect(t, kiosk.PageUp{ID: 1, Shutter: "open"})
}

// TestKeyFiles: key and page file are private. The page file leads to the address with the key. Both last.
func TestKeyFiles(t *testing.T) {
	folder := t.TempDir()
	var log rig.Output // the server writes its last line after Close
	start := func() *kiosk.Server {
		s, err := kiosk.New(kiosk.Config{
			Listen: "127.0.0.1:0", DataDir: folder, HandleMessage: func(kiosk.Message) {}, Log: zerolog.New(&log).Level(zerolog.TraceLevel),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	keys := make(map[string]bool)
	for range 2 { // a browser that hangs on the wall has the key of the first run
		s := start()
		key, err := kiosk.ReadKey(folder)
		if err != nil || len(key) < 26 {
			t.Fatalf("the key has %d characters, %v", len(key), err)
		}
		keys[key] = true
		text, err := os.ReadFile(filepath.Join(folder, kiosk.PageFile))
		if err != nil {
			t.Fatal(err)
		}
		address := kiosk.Address(s.Addr().String(), key)
		if want := `<meta http-equiv="refresh" content="0; url=` + address + `">`; !strings.Contains(string(text), want) {
			t.Errorf("the page file does not lead to %s:\n%s", address, text)
		}
		if response, _ := http.Get("http://" + s.Addr().String() + "/ws"); response != nil { // a line about a refusal
			_ = response.Body.Close()
		}
		if _, err := kiosk.Dial(t.Context(), s.Addr().String(), "x"); err == nil || strings.Contains(err.Error(), key) {
			t.Errorf("a wrong key: %v", err)
		}
		o, err := kiosk.Dial(t.Context(), s.Addr().String(), key)
		if err != nil {
			t.Fatal(err)
		}
		_ = o.Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log.String(), "without the page's key") || strings.Contains(log.String(), key) {
			t.Errorf("the log is %s", log.String())
		}
		for _, name := range []string{"page-key", kiosk.PageFile} {
			if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, info, err)
			}
		}
		// A copy by hand may have another mode.
		if err := os.Chmod(filepath.Join(folder, "page-key"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if len(keys) != 1 {
		t.Errorf("two runs have %d keys", len(keys))
	}
	// A damaged file does not become an empty key.
	for _, damaged := range []string{"", "\n", "short", `"><script>aaaaaaaaaaaaaaaaaaaaaaaaaaa`} {
		if err := os.WriteFile(filepath.Join(folder, "page-key"), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := kiosk.New(kiosk.Config{Listen: "127.0.0.1:0", DataDir: folder, HandleMessage: func(kiosk.Message) {}, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "page-key") {
			t.Errorf("with the key %q: %v", damaged, err)
		}
	}
}

// TestOpened: the page file, and a link on any site, open the page in a window of its own. They get nothing else.
func TestOpened(t *testing.T) {
	w := newServed(t, nil)
	get := func(path string, header http.Header) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	opens := func() http.Header {
		return http.Header{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}}
	}
	if status := get("/", opens()); status != http.StatusOK {
		t.Errorf("the page file gets %d", status)
	}
	frame, origin := opens(), opens()
	frame.Set("Sec-Fetch-Dest", "iframe")
	origin.Set("Origin", "null")
	for name, status := range map[string]int{
		"a file": get("/app.js", opens()), "the socket": get("/ws", opens()), "a frame": get("/", frame), "an origin": get("/", origin),
	} {
		if status != http.StatusForbidden {
			t.Errorf("%s from another site: %d", name, status)
		}
	}
}

// TestKeyInPage: the page names the subprotocols that the program asks for.
func TestKeyInPage(t *testing.T) {
	script, err := os.ReadFile("web/connection.js")
	if err != nil {
		t.Fatal(err)
	}
	names := kiosk.Subprotocols("${key}")
	if want := regexp.MustCompile(regexp.QuoteMeta(`["`+names[0]+`", `) + ".*" + regexp.QuoteMeta("`"+names[1]+"`")); !want.Match(script) {
		t.Errorf("connection.js does not match %s", want)
	}
}

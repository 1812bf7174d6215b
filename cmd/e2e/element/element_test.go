//go:build full

package element

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// TestPackages checks package.json and package-lock.json: exact versions, a hash for each package, and no download addresses, because some
// registries are reachable from one machine only.
func TestPackages(t *testing.T) {
	var wanted struct{ Dependencies map[string]string }
	var locked struct {
		Packages map[string]struct{ Version, Resolved, Integrity string }
	}
	for name, into := range map[string]any{"package.json": &wanted, "package-lock.json": &locked} {
		data, err := host.ReadFile(path.Join("host", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatal(name, err)
		}
	}
	for name, version := range wanted.Dependencies {
		if got := locked.Packages["node_modules/"+name].Version; got != version {
			t.Errorf("%s has version %q in package.json and %q in package-lock.json", name, version, got)
		}
	}
	for name, p := range locked.Packages {
		if p.Resolved != "" {
			t.Errorf("%s is locked to the address %s", name, p.Resolved)
		}
		if name != "" && !strings.HasPrefix(p.Integrity, "sha512-") {
			t.Errorf("%s is locked without a hash", name)
		}
	}
	if len(wanted.Dependencies) < 4 || len(locked.Packages) < 10 {
		t.Errorf("%d packages are wanted, %d locked", len(wanted.Dependencies), len(locked.Packages))
	}
}

// TestPages fetches the files that the host page needs before a call.
func TestPages(t *testing.T) {
	Need(t)
	folder, err := built()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(pages(folder, ""))
	defer server.Close()
	for name, kind := range map[string]string{
		"/": "text/html", "/bundle.js": "text/javascript", "/call/": "text/html", "/call/config.json": "application/json",
		"/pkg/matrix_sdk_crypto_wasm_bg.wasm": "application/wasm",
	} {
		answer, err := http.Get(server.URL + name)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if got := answer.Header.Get("Content-Type"); answer.StatusCode != http.StatusOK || !strings.HasPrefix(got, kind) {
			t.Errorf("%s is answered with %s, %q", name, answer.Status, got)
		}
	}
	if !strings.HasPrefix(filepath.Base(folder), "element-") {
		t.Errorf("the host page is built in %s", folder)
	}
}

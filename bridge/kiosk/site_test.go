package kiosk_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// TestFiles fetches the page and every file that it or another file names.
func TestFiles(t *testing.T) {
	w := newServed(t, nil)
	types := map[string]string{
		"": "text/html", ".css": "text/css", ".js": "text/javascript", ".json": "application/json", ".svg": "image/svg+xml",
	}
	names := regexp.MustCompile(`(?:href|src)="(/[^"#]+)"|from "\./([^"]+)"`)
	seen := map[string]bool{"/lang/de.json": false, "/lang/en.json": false, "/lang/it.json": false}
	todo := []string{"/", "/lang/de.json", "/lang/en.json", "/lang/it.json"}
	for len(todo) > 0 {
		path := todo[0]
		todo = todo[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		response, err := http.Get(w.url() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || len(body) == 0 {
			t.Errorf("%s: %s, %d bytes, %v", path, response.Status, len(body), err)
		}
		if want, got := types[filepath.Ext(path)], response.Header.Get("Content-Type"); want == "" || !strings.HasPrefix(got, want) {
			t.Errorf("%s is %q", path, got)
		}
		checkHeaders(t, path, response)
		text := strings.ReplaceAll(string(body), "http://www.w3.org/2000/svg", "")
		if matches := regexp.MustCompile(`https?://[a-z0-9]`).FindAllString(text, -1); matches != nil {
			t.Errorf("%s names something elsewhere: %v", path, matches)
		}
		if regexp.MustCompile(`(?i)<script[^>]*>[^<]|\sstyle=|<style|\son[a-z]+=|innerHTML|eval\(`).Match(body) {
			t.Errorf("%s has something that the content policy forbids", path)
		}
		// The same file is not sent twice: its tag says whether it has changed.
		etag := response.Header.Get("ETag")
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url()+path, nil)
		r.Header.Set("If-None-Match", etag)
		again, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = again.Body.Close()
		if etag == "" || again.StatusCode != http.StatusNotModified {
			t.Errorf("%s with its tag %s: %s", path, etag, again.Status)
		}
		for _, m := range names.FindAllStringSubmatch(string(body), -1) {
			if m[1] != "" {
				todo = append(todo, m[1])
			} else {
				todo = append(todo, "/"+m[2])
			}
		}
	}
	embedded := 0
	_ = filepath.WalkDir("web", func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		embedded++
		if path := strings.TrimPrefix(filepath.ToSlash(name), "web"); path != "/index.html" && !seen[path] {
			t.Errorf("%s is served, but nothing names it", path)
		}
		return nil
	})
	if embedded < 10 || len(seen) != embedded {
		t.Errorf("%d files were fetched of %d", len(seen), embedded)
	}
	for path, want := range map[string]int{
		"/none": 404, "/index.html": 404, "/web/app.js": 404, "/../server.go": 404, "/lang/": 404, "/lang": 404, "/ws": 403,
	} {
		response, err := http.Get(w.url() + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: %s", path, response.Status)
		}
		checkHeaders(t, path, response)
	}
	response, err := http.Post(w.url()+"/", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", response.Status)
	}
}

func checkHeaders(t *testing.T, path string, r *http.Response) {
	t.Helper()
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY", "Cache-Control": "no-cache",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %s is %q", path, name, got)
		}
	}
	csp := r.Header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "script-src 'self';", "base-uri 'none'"} {
		if !strings.Contains(csp, part) {
			t.Errorf("%s: the content policy lacks %s", path, part)
		}
	}
	if strings.Contains(csp, "unsafe") || !strings.Contains(r.Header.Get("Permissions-Policy"), "camera=(self), microphone=(self)") {
		t.Errorf("%s: %q, %q", path, csp, r.Header.Get("Permissions-Policy"))
	}
}

// TestLanguages compares the languages: the same keys, the same placeholders, nothing empty, and a sentence for each fault.
func TestLanguages(t *testing.T) {
	flat := func(language string) map[string]string {
		data, err := os.ReadFile(filepath.Join("web", "lang", language+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var tree map[string]any
		if err := json.Unmarshal(data, &tree); err != nil {
			t.Fatalf("%s: %v", language, err)
		}
		out := map[string]string{}
		var walk func(prefix string, node any)
		walk = func(prefix string, node any) {
			switch node := node.(type) {
			case string:
				out[prefix] = node
			case map[string]any:
				for k, v := range node {
					walk(strings.TrimPrefix(prefix+"."+k, "."), v)
				}
			default:
				t.Errorf("%s: %s is %T", language, prefix, node)
			}
		}
		walk("", tree)
		return out
	}
	blanks := regexp.MustCompile(`\{\w+\}`)
	english := flat("en")
	for _, code := range []string{
		"no_camera", "camera_busy", "camera_denied", "no_microphone", "no_picture", "page", "homeserver", "hub", "network_not_joined", "network_removed", "clock", "program", "replaced", "locked",
	} {
		if english["faults."+code+".what"] == "" || english["faults."+code+".do"] == "" {
			t.Errorf("no sentence for %s", code)
		}
	}
	emoji := 0
	for key := range english {
		if strings.HasPrefix(key, "emoji.") {
			emoji++
		}
	}
	if emoji != 64 { // Matrix specification, m.sas.v1
		t.Errorf("names of %d emoji", emoji)
	}
	for _, language := range []string{"de", "it"} {
		other := flat(language)
		if len(other) != len(english) {
			t.Errorf("%s has %d texts of %d", language, len(other), len(english))
		}
		for key, text := range english {
			if other[key] == "" || text == "" {
				t.Errorf("%s lacks %s", language, key)
			}
			if a, b := blanks.FindAllString(text, -1), blanks.FindAllString(other[key], -1); !reflect.DeepEqual(a, b) {
				t.Errorf("%s: %s has %v instead of %v", language, key, b, a)
			}
		}
	}
}

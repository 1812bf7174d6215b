package kiosk

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"
)

//go:embed web
var web embed.FS

// contentTypes are those of the page's files. A file of another kind is not served.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".json": "application/json; charset=utf-8",
	".svg":  "image/svg+xml",
}

// policy is the Content Security Policy: the page may load only what this server serves, and may not turn text into code.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; media-src 'self' blob:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// permissions is the Permissions Policy: the page may use those features of the browser that a window needs, and no other page may.
const permissions = "camera=(self), microphone=(self), autoplay=(self), screen-wake-lock=(self), fullscreen=(self), " +
	"display-capture=(), geolocation=(), usb=(), serial=(), hid=(), midi=(), payment=(), clipboard-read=()"

// site serves the page's files.
type site struct {
	files map[string]file // by path, "/" is the page
	// version changes with the files' content.
	version string
}

type file struct {
	data        []byte
	contentType string
	etag        string
}

func newSite() (*site, error) {
	s := &site{files: make(map[string]file)}
	all := sha256.New()
	err := fs.WalkDir(web, "web", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := web.ReadFile(name)
		if err != nil {
			return err
		}
		contentType, ok := contentTypes[path.Ext(name)]
		if !ok {
			return fmt.Errorf("the page's file %s is of no known kind", name)
		}
		sum := sha256.Sum256(data)
		url := strings.TrimPrefix(name, "web")
		if url == "/index.html" {
			url = "/"
		}
		fmt.Fprintf(all, "%s %x\n", url, sum)
		s.files[url] = file{data, contentType, `"` + hex.EncodeToString(sum[:12]) + `"`}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.version = hex.EncodeToString(all.Sum(nil)[:8])
	return s, nil
}

// ServeHTTP implements [http.Handler].
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := s.files[r.URL.Path]
	switch {
	case !ok:
		http.Error(w, "there is no such file", http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
	default:
		w.Header().Set("Content-Type", f.contentType)
		w.Header().Set("ETag", f.etag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.data))
	}
}

// guard sets the headers of every answer. It refuses requests that a foreign web site could cause in a browser on this machine: requests to
// the site's own host name when that name points to this machine (DNS rebinding), and requests from the site's pages. A site may lead the whole
// browser window here, as [PageFile] does: without the key the page shows nothing.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Permissions-Policy", permissions)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Embedder-Policy", "require-corp")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache") // the browser asks each time, and mostly gets 304
		if !localHost(r.Host) || !ownOrigin(r) && !opensPage(r) {
			s.counters.refused.Add(1)
			s.refusalLog.Warn().Uint64("refused", s.counters.refused.Load()).Msg("A request that a foreign web site caused was refused")
			http.Error(w, "this page can be opened on its own machine only, as http://127.0.0.1", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// localHost says whether a Host header names this machine. Any port is right, because a tunnel may use another one.
func localHost(hostport string) bool {
	u, err := url.Parse("http://" + hostport)
	if err != nil || u.Host != hostport || hostport == "" {
		return false
	}
	if strings.EqualFold(u.Hostname(), "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return err == nil && addr.IsLoopback() && addr.Zone() == ""
}

// opensPage says whether a request shows the page in a browser window of its own, without other sites' code around it (Fetch Metadata).
func opensPage(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Path == "/" && len(r.Header.Values("Origin")) == 0 &&
		r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
}

// ownOrigin says whether a request comes from the page itself, from an address that somebody typed, or from a program that is no
// browser. Browsers always send Origin with a WebSocket (RFC 6455, 4.1) and Sec-Fetch-Site to addresses such as ours.
func ownOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return false
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	return len(origins) == 1 && strings.EqualFold(origins[0], "http://"+r.Host)
}

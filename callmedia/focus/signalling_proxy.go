package focus

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"
)

// signalPaths are the paths of LiveKit that clients need: both forms of signalling, and the ones that explain a refusal. Everything
// else stays closed: the API, which creates and ends rooms, and WHIP, which takes media without signalling.
var signalPaths = map[string]bool{"/rtc": true, "/rtc/v1": true, "/rtc/validate": true, "/rtc/v1/validate": true}

// NewProxy makes a handler that passes LiveKit's signalling on to the server at liveKitURL (http or https), and nothing else. It
// expects request paths without the prefix that it is mounted under.
func NewProxy(liveKitURL string) (http.Handler, error) {
	if err := checkURL(liveKitURL, "http", "https"); err != nil {
		return nil, fmt.Errorf("proxy to LiveKit: %w", err)
	}
	target, err := url.Parse(strings.TrimSuffix(liveKitURL, "/"))
	if err != nil {
		return nil, fmt.Errorf("proxy to LiveKit: %w", err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			path := target.Path + r.In.URL.Path
			r.SetURL(target)
			r.Out.URL.Path, r.Out.URL.RawPath = path, ""
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 15 * time.Second},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			http.Error(w, "the SFU does not answer", http.StatusBadGateway)
		},
		ErrorLog: log.New(io.Discard, "", 0), // its lines would contain URLs with tokens
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !signalPaths[r.URL.Path]:
			http.NotFound(w, r)
		case r.Method != http.MethodGet && r.Method != http.MethodOptions:
			w.Header().Set("Allow", "GET, OPTIONS")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		case r.ContentLength != 0:
			http.Error(w, "the request must not have a body", http.StatusBadRequest)
		default:
			proxy.ServeHTTP(w, r)
		}
	}), nil
}

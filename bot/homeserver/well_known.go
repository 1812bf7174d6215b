package homeserver

import (
	"net"
	"net/url"

	"multifactorymodel.org/ewindow/bot/unstable"
)

// wellKnown returns the answer of each path below /.well-known/matrix/. Clients find the homeserver and its RTC transports there, and other
// homeservers find this one.
func wellKnown(public *url.URL, transports []transport) map[string]any {
	port := public.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[public.Scheme]
	}
	return map[string]any{
		"/.well-known/matrix/client": map[string]any{
			"m.homeserver":   map[string]string{"base_url": public.String()},
			unstable.RTCFoci: transports,
		},
		"/.well-known/matrix/server": map[string]string{"m.server": net.JoinHostPort(public.Hostname(), port)},
	}
}

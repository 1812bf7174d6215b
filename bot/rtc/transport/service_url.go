package transport

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"net/url"
	"strings"

	"multifactorymodel.org/ewindow/bot/strictjson"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// maxURL is the longest address that is accepted, in bytes.
const maxURL = 1024

// ServiceURL brings a livekit_service_url into the one form in which services are compared and announced: no trailing slash, scheme and
// host in lower case. It refuses everything that is neither https nor http on this machine, since our OpenID token is sent there.
func ServiceURL(raw string) (service string, ok bool) {
	u, ok := endpoint(raw, "https", "http")
	if !ok || u.RawQuery != "" || u.ForceQuery {
		return "", false
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	service = u.String()
	return service, len(service) <= maxURL
}

// endpoint reads an absolute URL. Its scheme must be secure; plain is accepted only for this machine.
func endpoint(raw, secure, plain string) (*url.URL, bool) {
	if raw == "" || len(raw) > maxURL {
		return nil, false
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || u.User != nil || u.Fragment != "" || u.Hostname() == "" {
		return nil, false
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch u.Scheme {
	case secure:
	case plain:
		if !loopback(u.Hostname()) {
			return nil, false
		}
	default:
		return nil, false
	}
	if port := u.Port(); port == "443" && u.Scheme == secure || port == "80" && u.Scheme == plain || strings.HasSuffix(u.Host, ":") {
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	}
	return u, true
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// LiveKit reads one transport of type livekit, in its older or newest form (MSC4195), and returns its service.
func LiveKit(raw json.RawMessage) (service string, ok bool) {
	o, ok := strictjson.Parse(raw)
	if !ok {
		return "", false
	}
	if kind, _ := o.Text("type", strictjson.MaxName); kind != unstable.TransportLiveKit && kind != unstable.TransportLiveKitStable {
		return "", false
	}
	older, _ := o.Text(unstable.ServiceURL, maxURL)
	newest, _ := o.Text(unstable.TransportURL, maxURL)
	return ServiceURL(cmp.Or(older, newest))
}

package main

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const wholeHub = `
hub:
  public_url: https://hub.example.org:8448
  tls_certificate: x
  tls_key: y
  turnserver:
    enabled: true
    listen: ["udp://0.0.0.0:3478", "tls://0.0.0.0:5349"]
    public_ip: 192.0.2.7
    secret: 0123456789abcdef-top-secret
  focus:
    enabled: true
  homeserver:
    enabled: true
    server_name: example.org
    registration_secret: 0123456789abcdef-top-secret
`

const focusOnly = `
hub:
  public_url: https://focus.example.org
  listen: ""
  turnserver:
    enabled: true
    public_ip: 192.0.2.7
    secret: 0123456789abcdef-top-secret
  focus:
    open: true
    enabled: true
    full_access_homeservers: [example.org]
`

func TestSnippets(t *testing.T) {
	for _, test := range []struct {
		name, config string
		want, not    []string
	}{
		{"synapse", wholeHub, []string{
			"livekit_service_url: https://hub.example.org:8448/livekit/jwt", "turn:192.0.2.7:3478?transport=udp",
			"turns:hub.example.org:5349?transport=tcp", "max_event_delay_duration:",
		}, nil},
		{"synapse", strings.Replace(wholeHub, "listen: [", "share_https_port: true\n    tls_host: turn.example.org\n    listen: [", 1), []string{
			"turn:192.0.2.7:3478?transport=udp", "turns:turn.example.org:5349?transport=tcp", "turns:turn.example.org:8448?transport=tcp",
		}, nil},
		{"synapse", strings.Replace(focusOnly, `listen: ""`, "listen: 0.0.0.0:443", 1), []string{"turn:192.0.2.7:3478?transport=tcp"}, []string{"turns:"}},
		{"synapse", strings.Replace(strings.Replace(focusOnly, `listen: ""`, "listen: 0.0.0.0:443", 1), "public_ip:", "share_https_port: true\n    public_ip:", 1),
			[]string{"turns:focus.example.org:443?transport=tcp"}, nil},
		{"nginx", wholeHub, []string{"server_name hub.example.org;", "listen 8448 ssl;", "location / {", "proxy_pass http://127.0.0.1:8008;", "proxy_set_header Host $http_host;"}, []string{"well-known"}},
		{"nginx", focusOnly, []string{"location /livekit/ {", "/.well-known/matrix/client", "https://focus.example.org/livekit/jwt"}, []string{"8448", "listen 80"}},
		{"nginx", strings.Replace(wholeHub, ":8448", "", 1), []string{"listen 443 ssl;", "listen 8448 ssl;"}, nil},
		{"caddy", strings.Replace(wholeHub, ":8448", "", 1), []string{"hub.example.org, hub.example.org:8448 {"}, nil},
		{"caddy", wholeHub, []string{"hub.example.org:8448 {", "reverse_proxy 127.0.0.1:8008 {"}, []string{"well-known"}},
		{"caddy", focusOnly, []string{"focus.example.org {", "reverse_proxy /livekit/* 127.0.0.1:8008 {", "org.matrix.msc4143.rtc_foci"}, []string{"8448"}},
	} {
		code, out, errs := command(t, "hub", "snippet", "-c", write(t, test.config), test.name)
		if code != 0 {
			t.Errorf("%s: exit code %d: %s", test.name, code, errs)
			continue
		}
		for _, part := range test.want {
			if !strings.Contains(out, part) {
				t.Errorf("%s: %q is missing in\n%s", test.name, part, out)
			}
		}
		for _, part := range append(test.not, "top-secret", "<no value>") {
			if strings.Contains(out, part) {
				t.Errorf("%s: %q is in\n%s", test.name, part, out)
			}
		}
		if test.name == "synapse" {
			var settings map[string]any
			if err := yaml.Unmarshal([]byte(out), &settings); err != nil || len(settings) < 8 {
				t.Errorf("Synapse's settings are no YAML of 8 keys (%v):\n%s", err, out)
			}
		}
	}
}

func TestSnippetRefused(t *testing.T) {
	for _, test := range []struct {
		config, want string
		args         []string
	}{
		{wholeHub, "one of three is needed", []string{"apache"}},
		{wholeHub, "one of three is needed", nil},
		{"hub: {}\n", "hub.public_url is empty", []string{"synapse"}},
		{strings.Replace(focusOnly, `listen: ""`, "local_listen: \"\"", 1), "hub.local_listen is empty", []string{"nginx"}},
	} {
		code, _, errs := command(t, append([]string{"hub", "snippet", "-c", write(t, test.config)}, test.args...)...)
		if code == 0 || !strings.Contains(errs, test.want) {
			t.Errorf("%v: exit code %d, %q is not in %q", test.args, code, test.want, errs)
		}
	}
}

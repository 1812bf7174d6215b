package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/template"

	"github.com/urfave/cli/v2"

	"multifactorymodel.org/ewindow/bot/unstable"
	"multifactorymodel.org/ewindow/bridge/hub"
	"multifactorymodel.org/ewindow/cmd/ewindow/config"
)

// snippets holds the templates of what other programs need in their configuration, by program. None of them holds a secret.
var snippets = map[string]string{
	"synapse": `# For Synapse's homeserver.yaml. Restart Synapse afterwards.

# Clients find the focus by matrix_rtc or by the .well-known file; Element needs both for now. With msc4222_enabled, clients follow the
# members of a call reliably.
experimental_features:
  msc4143_enabled: true
  msc4222_enabled: true
matrix_rtc:
  transports:
    - type: {{.LiveKit}}
      livekit_service_url: {{.Service}}
extra_well_known_client_content:
  {{.Foci}}:
    - type: {{.LiveKit}}
      livekit_service_url: {{.Service}}

# Without delayed events (MSC4140) somebody who loses the connection stays in the call's list of members for hours.
max_event_delay_duration: 24h
rc_delayed_event_mgmt:
  per_second: 1
  burst_count: 20

# Joining and leaving a call are events, too. The default of 0.2 a second is too slow for people who open and shut a window.
rc_message:
  per_second: 0.5
  burst_count: 30

# The focus asks Synapse who somebody is. That needs a listener with the resource "federation" or "openid" that the hub can reach, also
# where Synapse federates with nobody.
{{- if .Turn}}

# The hub's TURN relay. The file holds the same secret as hub.turnserver.secret, and nothing else.
turn_uris:
{{- range .Turn}}
  - "{{.}}"
{{- end}}
turn_shared_secret_path: /etc/matrix-synapse/turn-secret
turn_user_lifetime: 24h
turn_allow_guests: false
{{- end}}
`,
	"nginx": `# For nginx, in its folder of sites. The hub's own HTTPS is switched off by hub.listen: "".

server {
{{- range .Ports}}
    listen {{.}} ssl;
    listen [::]:{{.}} ssl;
{{- end}}
    server_name {{.Host}};
    ssl_certificate /etc/letsencrypt/live/{{.Host}}/fullchain.pem;
    ssl_certificate_key /etc/letsencrypt/live/{{.Host}}/privkey.pem;

    # Pictures that people send in Element.
    client_max_body_size 50m;

    location {{.Path}} {
        proxy_pass http://{{.Local}};
        # nginx must not change the path: no slash after the address.
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        # The calls' signalling is a WebSocket that stays open as long as a call; /sync waits for half a minute.
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "upgrade";
        proxy_read_timeout 1h;
        proxy_send_timeout 1h;
        proxy_buffering off;
    }
}
{{- if not .Whole}}

# On the server whose name stands in your users' ids, so that clients find the focus:
#
#    location = /.well-known/matrix/client {
#        default_type application/json;
#        add_header Access-Control-Allow-Origin *;
#        return 200 '{"m.homeserver":{"base_url":"https://YOUR-HOMESERVER"},"{{.Foci}}":[{"type":"{{.LiveKit}}","livekit_service_url":"{{.Service}}"}]}';
#    }
{{- end}}
`,
	"caddy": `# For Caddy's Caddyfile. It gets the certificate by itself. The hub's own HTTPS is switched off by hub.listen: "".

{{.Sites}} {
{{- if .Whole}}
	reverse_proxy {{.Local}} {
{{- else}}
	reverse_proxy {{.Path}}* {{.Local}} {
{{- end}}
		# /sync waits for half a minute, and a call's signalling as long as the call.
		flush_interval -1
	}
}
{{- if not .Whole}}

# On the site whose name stands in your users' ids, so that clients find the focus:
#
#	header /.well-known/matrix/client Content-Type application/json
#	header /.well-known/matrix/client Access-Control-Allow-Origin *
#	respond /.well-known/matrix/client ` + "`" + `{"m.homeserver":{"base_url":"https://YOUR-HOMESERVER"},"{{.Foci}}":[{"type":"{{.LiveKit}}","livekit_service_url":"{{.Service}}"}]}` + "`" + `
{{- end}}
`,
}

// federationPort is the port of a homeserver that announces no other (Matrix server-server API, section "Resolving server names").
const federationPort = "8448"

// snippetData is what a snippet is filled with.
type snippetData struct {
	Service string   // livekit_service_url
	Host    string   // of hub.public_url
	Ports   []string // the port of hub.public_url, and that of federation
	Sites   string   // for Caddy: the host, once for each port
	Local   string   // hub.local_listen
	Path    string   // the part of the host that is passed on to the hub
	Turn    []string // TURN URIs (RFC 7065)
	Whole   bool     // the whole host is the hub's, since it has a homeserver, too
	LiveKit string   // the type of a transport (MSC4195)
	Foci    string   // the key of .well-known/matrix/client (MSC4143)
}

func hubSnippetCommand() *cli.Command {
	return &cli.Command{
		Name:      "snippet",
		Usage:     "print what Synapse, nginx or Caddy need in their configuration to go with this hub",
		ArgsUsage: "synapse|nginx|caddy",
		Flags:     []cli.Flag{configFlag()},
		Action: func(c *cli.Context) error {
			text, known := snippets[c.Args().First()]
			if c.NArg() != 1 || !known {
				return &usageError{"one of three is needed: ewindow hub snippet synapse, nginx or caddy"}
			}
			cfg, err := config.Load(c.String("config"))
			if err != nil {
				return err
			}
			settings, err := hubConfig(cfg)
			if err != nil {
				return fmt.Errorf("%s: %w", c.String("config"), err)
			}
			return writeSnippet(c.App.Writer, c.Args().First(), text, &settings)
		},
	}
}

// writeSnippet fills a snippet with the hub's settings.
func writeSnippet(w io.Writer, name, text string, h *hub.Config) error {
	data := snippetData{
		Service: hub.ServiceURL(h), Local: h.LocalListen, Path: "/", LiveKit: unstable.TransportLiveKit, Foci: unstable.RTCFoci,
		Whole: h.Homeserver != nil, Turn: hub.TURNURIs(h),
	}
	if data.Service == "" {
		return errors.New("hub.public_url is empty: give the hub the address at which others reach it, such as https://hub.example.org")
	}
	if name != "synapse" {
		public, err := url.Parse(h.PublicURL)
		if err != nil || public.Hostname() == "" {
			return fmt.Errorf("hub.public_url: %q is no address: give one such as https://hub.example.org", h.PublicURL)
		}
		if h.LocalListen == "" {
			return errors.New("hub.local_listen is empty: give an address for the proxy to come to, such as 127.0.0.1:8008")
		}
		data.Host = public.Hostname()
		if !data.Whole {
			data.Path = "/livekit/"
		}
		port := public.Port()
		if port == "" {
			port = "443"
		}
		data.Ports = []string{port}
		if data.Whole && port != federationPort {
			data.Ports = append(data.Ports, federationPort)
		}
		var sites []string
		for _, port := range data.Ports {
			sites = append(sites, strings.TrimSuffix(data.Host+":"+port, ":443"))
		}
		data.Sites = strings.Join(sites, ", ")
	}
	filled, err := template.New(name).Option("missingkey=error").Parse(text)
	if err != nil {
		return err
	}
	return filled.Execute(w, data)
}

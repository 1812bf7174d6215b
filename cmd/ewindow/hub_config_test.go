package main

import (
	"reflect"
	"strings"
	"testing"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/cmd/ewindow/config"
)

// everyHubSetting gives each setting of a hub a value that is not zero.
const everyHubSetting = `
network: {admins: ["@anna:example.org"]}
metrics: {listen: "127.0.0.1:9468"}
hub:
  public_url: https://hub.example.org
  tls_certificate: /hub.pem
  tls_key: /hub-key.pem
  acme: {enabled: true, email: anna@example.org}
  proxy_protocol_from: [10.0.0.5]
  account: {homeserver_url: https://matrix.example.org, password: secret}
  turnserver:
    enabled: true
    public_ip: 192.0.2.7
    more_public_ips: [192.0.2.8/10.0.0.8]
    secret: 0123456789abcdef
    old_secret: 0123456789abcdef
    allowed_peers: ["192.0.2.9:7000-7010"]
    max_bitrate: 1000000
    max_bitrate_per_user: 1000000
    drain: 1s
    tls_certificate: /turn.pem
    tls_key: /turn-key.pem
    tls_host: turn.example.org
    share_https_port: true
    proxy_protocol_from: [10.0.0.5]
  focus:
    enabled: true
    open: true
    livekit_program: /livekit
    livekit_url: wss://livekit.example.org
    key: key
    secret: secret
    node_ip: 192.0.2.10
    allow_loopback: true
    full_access_homeservers: [example.org]
    public_url: wss://sfu.example.org
    livekit_service_url: https://other.example.org/jwt
  homeserver:
    enabled: true
    server_name: example.org
    dendrite_program: /dendrite
    url: http://127.0.0.1:8108
    registration_secret: secret
`

// TestHubConfigComplete checks that each setting of the hub comes from the file, also those that are added later.
func TestHubConfigComplete(t *testing.T) {
	cfg, err := config.Parse([]byte(everyHubSetting))
	if err != nil {
		t.Fatal(err)
	}
	c, err := hubConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Log = newLog(cfg.Logging, new(rig.Output))
	missing := func(path string) { t.Errorf("%s has no value", path) }
	eachZero(reflect.ValueOf(c), "hub.Config", missing)
}

// eachZero calls f with the name of each field in v that has no value.
func eachZero(v reflect.Value, path string, f func(path string)) {
	switch {
	case v.IsZero():
		f(path)
	case v.Kind() == reflect.Pointer:
		eachZero(v.Elem(), path, f)
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			eachZero(v.Index(i), path, f)
		}
	case v.Kind() == reflect.Struct && strings.HasPrefix(v.Type().PkgPath(), "multifactorymodel.org/ewindow/"):
		for i := range v.NumField() {
			eachZero(v.Field(i), path+"."+v.Type().Field(i).Name, f)
		}
	}
}

// TestHubConfigErrors checks that an error names the key whose value can't be read, and that parts that are switched off are not read.
func TestHubConfigErrors(t *testing.T) {
	for key, change := range map[string]func(*config.HubConfig){
		"hub.proxy_protocol_from":            func(h *config.HubConfig) { h.ProxyProtocolFrom = []string{"x"} },
		"hub.homeserver.allow_networks":      func(h *config.HubConfig) { h.Homeserver.AllowNetworks = []string{"x"} },
		"hub.homeserver.deny_networks":       func(h *config.HubConfig) { h.Homeserver.DenyNetworks = []string{"x"} },
		"hub.turnserver.listen":              func(h *config.HubConfig) { h.TurnServer.Listen = []string{"x"} },
		"hub.turnserver.public_ip":           func(h *config.HubConfig) { h.TurnServer.PublicIP = "x" },
		"hub.turnserver.more_public_ips":     func(h *config.HubConfig) { h.TurnServer.MorePublicIPs = []string{"x"} },
		"hub.turnserver.allowed_peers":       func(h *config.HubConfig) { h.TurnServer.AllowedPeers = []string{"x"} },
		"hub.turnserver.relay_ports":         func(h *config.HubConfig) { h.TurnServer.RelayPorts = "x" },
		"hub.turnserver.proxy_protocol_from": func(h *config.HubConfig) { h.TurnServer.ProxyProtocolFrom = []string{"x"} },
	} {
		cfg, err := config.Parse([]byte(everyHubSetting))
		if err != nil {
			t.Fatal(err)
		}
		change(&cfg.Hub)
		if _, err := hubConfig(cfg); err == nil || !strings.HasPrefix(err.Error(), key+": ") {
			t.Errorf("%s: %v", key, err)
		}
		cfg.Hub.TurnServer.Enabled, cfg.Hub.Focus.Enabled, cfg.Hub.Homeserver.Enabled = false, false, false
		if c, err := hubConfig(cfg); err != nil || c.Relay != nil || c.Focus != nil || c.Homeserver != nil {
			t.Errorf("%s, with everything off: %v", key, err)
		}
	}
}

package hub

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/livekit/protocol/livekit"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bridge/child"
	"multifactorymodel.org/ewindow/callmedia/focus"
	"multifactorymodel.org/ewindow/turnserver"
)

// startFocus starts LiveKit, unless it runs elsewhere, and makes the authorisation service. Both are served below Config.PublicURL.
func (h *hub) startFocus(ctx context.Context) error {
	f := h.cfg.Focus
	api, key, secret := f.LiveKitURL, f.Key, f.Secret
	if api == "" {
		if key == "" {
			key, secret = "ewindow-"+rand.Text(), rand.Text()+rand.Text() // LiveKit wants 32 characters
		}
		var err error
		if api, err = h.startLiveKit(ctx, key, secret); err != nil {
			return err
		}
	}
	api = httpURL(api)
	log := h.cfg.Log.With().Str("part", "focus").Logger()
	access := focus.ServiceConfig{
		LiveKitURL: api, PublicURL: sfuURL(&h.cfg), ServiceURL: ServiceURL(&h.cfg), Key: key, Secret: secret, FullAccess: fullAccess(&h.cfg),
		Allowed: func(a netip.Addr) bool { return mayConnect(&h.cfg, a) },
		Member:  h.joined, Own: h.ownHomeserver, Log: log,
	}
	if needsAccount(&h.cfg) {
		access.DeviceKey, access.Window, access.Why = h.deviceKey, h.isWindow, h.whyNot
	}
	service, err := focus.NewService(access)
	if err != nil {
		return err
	}
	signalling := focus.ProxyConfig{LiveKitURL: api, Key: key, Secret: secret, Member: h.isJoined, Log: log}
	if h.cfg.Relay != nil && f.LiveKitURL == "" {
		signalling.ICEServers = func(user id.UserID) []*livekit.ICEServer { return iceServers(h.told.Load(), user) }
	}
	proxy, err := focus.NewProxy(signalling)
	if err != nil {
		return err
	}
	h.service, h.proxy = service, proxy
	h.mux.Handle(servicePath+"/", http.StripPrefix(servicePath, service))
	h.mux.Handle(sfuPath+"/", http.StripPrefix(sfuPath, proxy))
	return nil
}

// ownHomeserver returns the name of the hub's own Dendrite and the address of the front before it, an empty address without one.
func (h *hub) ownHomeserver() (serverName, address string) {
	if h.cfg.Homeserver == nil {
		return "", ""
	}
	return h.cfg.Homeserver.ServerName, h.local
}

// startLiveKit runs LiveKit as a child and returns the address of its API.
func (h *hub) startLiveKit(ctx context.Context, key, secret string) (api string, err error) {
	f := h.cfg.Focus
	program, err := h.find(ctx, child.LiveKit, f.Program)
	if err != nil {
		return "", err
	}
	port, udp, tcp := f.Port, f.UDPPort, f.TCPPort
	if err := choosePorts(&port, &udp, &tcp); err != nil {
		return "", err
	}
	server, err := focus.NewLiveKit(focus.LiveKitConfig{
		Dir: filepath.Join(h.cfg.DataDir, "livekit"), Key: key, Secret: secret, Port: port, UDPPort: udp, TCPPort: tcp,
		NodeIP: nodeIP(h.told.Load()), AllowLoopback: f.AllowLoopback, Log: h.cfg.Log,
	})
	if err != nil {
		return "", err
	}
	running, err := h.startChild(ctx, child.LiveKit, program, "livekit.log", server, nil)
	if err != nil {
		return "", err
	}
	h.livekit = &livekitChild{server, running, []int{udp, tcp}}
	return server.URL(), nil
}

// livekitChild is the LiveKit that is a child of the hub.
type livekitChild struct {
	server *focus.LiveKit
	child  *child.Child
	ports  []int // of media
}

// peers are the child's own addresses, each with its ports of media: the relay has to relay to them, and to nothing else of this machine.
func (l *livekitChild) peers() (list []turnserver.Peer) {
	if l == nil {
		return nil
	}
	for _, a := range l.server.Addresses() {
		for _, port := range l.ports {
			// No relay sends to some addresses, such as those of 6to4.
			if peer, err := turnserver.ParsePeer(netip.AddrPortFrom(a, uint16(port)).String()); err == nil {
				list = append(list, peer)
			}
		}
	}
	return list
}

// httpURL turns ws and wss into http and https, since LiveKit's API is asked over HTTP.
func httpURL(text string) string {
	if rest, ok := strings.CutPrefix(text, "ws"); ok {
		return "http" + rest
	}
	return text
}

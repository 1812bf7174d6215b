package focus

import (
	"net/netip"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

// layerTracker says when LiveKit uses a layer of a picture again after the layer was missing: after four half seconds in a row with a packet of it.
// LiveKit's own setting is twenty half seconds in a row with five packets each. So who publishes from a busy machine may never be seen large again.
var layerTracker = map[string]any{"samples_required": 1, "cycles_required": 4, "cycle_duration": "500ms"}

// settings returns LiveKit's configuration; config-sample.yaml in LiveKit's repository describes it.
func (l *LiveKit) settings() map[string]any {
	c, at := l.cfg, l.at()
	rtc := map[string]any{
		"udp_port": c.UDPPort, "node_ip": at.node.String(), "use_external_ip": false, "enable_loopback_candidate": c.AllowLoopback,
		"pli_throttle": map[string]any{"low_quality": pliThrottle, "mid_quality": pliThrottle, "high_quality": pliThrottle},
		"tcp_port":     c.TCPPort,
		// LiveKit has an address that clients can reach, so clients alone choose the candidate pair. Without ICE lite LiveKit waits
		// two seconds before it accepts a relayed pair.
		"use_ice_lite": true,
	}
	if at.node.IsLoopback() {
		rtc["interfaces"] = map[string]any{"includes": []string{"lo"}}
	} else if at.own.IsValid() {
		// LiveKit announces NodeIP once for each address of this machine that it uses. So it uses only the address that NodeIP leads to, and the
		// addresses of the other family.
		var taken []string
		for _, a := range append([]netip.Addr{at.own}, at.others...) {
			taken = append(taken, netip.PrefixFrom(a, a.BitLen()).String())
		}
		if c.AllowLoopback {
			taken = append(taken, "127.0.0.0/8", "::1/128")
		}
		rtc["ips"] = map[string]any{"includes": taken}
	}
	// The proxy tells clients our TURN servers. If this list were empty LiveKit would tell them the STUN servers of large companies. So it names
	// LiveKit's own media port: clients send there anyway, and it does not answer such requests.
	rtc["stun_servers"] = []string{netip.AddrPortFrom(at.node, uint16(c.UDPPort)).String()}
	// Only what every window shows. LiveKit lets a client that wants another codec, such as AV1, send VP8. There is no RED, since nobody can split
	// its blocks once they are encrypted.
	var codecs []map[string]string
	for _, c := range append([]codec.Codec{codec.Opus}, codec.Pictures()...) {
		codecs = append(codecs, map[string]string{"mime": c.Parameters().MIMEType})
	}
	codecs = append(codecs, map[string]string{"mime": "video/rtx"}) // RFC 4588
	return map[string]any{
		"port": c.Port, "bind_addresses": []string{"127.0.0.1"}, "keys": map[string]string{c.Key: c.Secret}, "rtc": rtc,
		"room": map[string]any{
			"auto_create": false, "enabled_codecs": codecs, "empty_timeout": emptyTimeout, "departure_timeout": departureTimeout,
		},
		"video": map[string]any{"stream_tracker_manager": map[string]any{"video": map[string]any{
			"packet_tracker": map[int]any{1: layerTracker, 2: layerTracker},
		}}},
		"limit": map[string]any{
			"max_participant_identity_length": maxIdentity, "max_metadata_size": maxMetadata, "max_attributes_size": maxMetadata,
		},
		// Its warnings contain every token that it refuses.
		"logging": map[string]any{"level": "error", "pion_level": "error", "json": true},
	}
}

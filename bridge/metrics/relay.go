package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"multifactorymodel.org/ewindow/turnserver"
)

// Relay shows what a TURN relay counts.
func Relay(read func() turnserver.Counters) prometheus.Collector {
	type C = turnserver.Counters
	const (
		refused = "Requests and connections that were refused, by reason."
		dropped = "Messages and packets that were dropped without an answer, by reason."
		packets = "Packets that were relayed."
		bytes   = "Bytes that were relayed, without headers."
	)
	return part[C]{read, []metric[C]{
		gauge("turn_allocations", "Allocations that are open now.", func(c C) int { return c.Allocations }),
		gauge("turn_streams", "TCP and TLS connections that are open now.", func(c C) int { return c.Streams }),
		counter("turn_allocations_created", "Allocations that were made.", func(c C) uint64 { return c.Created }),
		counter("turn_refused", refused, func(c C) uint64 { return c.RefusedLogins }, "reason", "login"),
		counter("turn_refused", refused, func(c C) uint64 { return c.StaleNonces }, "reason", "stale_nonce"),
		counter("turn_refused", refused, func(c C) uint64 { return c.RefusedQuota }, "reason", "quota"),
		counter("turn_refused", refused, func(c C) uint64 { return c.RefusedPeers }, "reason", "peer"),
		counter("turn_refused", refused, func(c C) uint64 { return c.RefusedTransports }, "reason", "transport"),
		counter("turn_refused", refused, func(c C) uint64 { return c.RefusedStreams }, "reason", "streams"),
		counter("turn_dropped", dropped, func(c C) uint64 { return c.Limited }, "reason", "limited"),
		counter("turn_dropped", dropped, func(c C) uint64 { return c.Throttled }, "reason", "bitrate"),
		counter("turn_dropped", dropped, func(c C) uint64 { return c.Unsent }, "reason", "unsent"),
		counter("turn_dropped", dropped, func(c C) uint64 { return c.Malformed }, "reason", "malformed"),
		counter("turn_dropped", dropped, func(c C) uint64 { return c.DroppedPeer }, "reason", "peer"),
		counter("turn_relayed_packets", packets, func(c C) uint64 { return c.ToPeers }, "direction", "to_peers"),
		counter("turn_relayed_packets", packets, func(c C) uint64 { return c.FromPeers }, "direction", "from_peers"),
		counter("turn_relayed_bytes", bytes, func(c C) uint64 { return c.ToPeersBytes }, "direction", "to_peers"),
		counter("turn_relayed_bytes", bytes, func(c C) uint64 { return c.FromPeersBytes }, "direction", "from_peers"),
	}}
}

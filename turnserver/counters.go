package turnserver

import "sync/atomic"

// Counters say what a server has done since it was made. Allocations and Streams are what is open now.
type Counters struct {
	// Allocations and Streams (TCP and TLS connections) are open now.
	Allocations, Streams int
	// Created counts allocations that were made.
	Created uint64
	// RefusedLogins counts requests with forged, expired or foreign user names or a wrong password.
	RefusedLogins uint64
	// RefusedQuota counts allocations refused because a limit was reached.
	RefusedQuota uint64
	// RefusedPeers counts permissions and channels asked for a forbidden peer.
	RefusedPeers uint64
	// RefusedTransports counts allocations that asked for anything but UDP, such as RFC 6062's TCP.
	RefusedTransports uint64
	// RefusedStreams counts connections closed at once because there were too many.
	RefusedStreams uint64
	// Limited counts messages dropped because their source sent too many without an allocation.
	Limited uint64
	// StaleNonces counts signed requests whose nonce had expired, was made up or was another client's.
	StaleNonces uint64
	// Unsent counts packets and answers that the system or the full queue of a slow stream did not take.
	Unsent uint64
	// Throttled counts packets dropped because their user, or all users together, exceeded the bitrate.
	Throttled uint64
	// Malformed counts messages that are neither STUN nor channel data of an allocation, and Send indications that are not valid.
	Malformed uint64
	// DroppedPeer counts packets to or from a peer without a valid channel or permission, or with a forbidden address or port.
	DroppedPeer uint64
	// ToPeers, FromPeers and their Bytes count what was relayed.
	ToPeers, FromPeers, ToPeersBytes, FromPeersBytes uint64
}

// counters are the parts of Counters that only grow.
type counters struct {
	created, refusedLogins, refusedQuota, refusedPeers, refusedTransports, refusedStreams atomic.Uint64
	limited, staleNonces, unsent, throttled, malformed, droppedPeer                       atomic.Uint64
	toPeers, fromPeers, toPeersBytes, fromPeersBytes                                      atomic.Uint64
}

func (c *counters) read() Counters {
	return Counters{
		Created: c.created.Load(), RefusedLogins: c.refusedLogins.Load(), RefusedQuota: c.refusedQuota.Load(),
		RefusedPeers: c.refusedPeers.Load(), RefusedTransports: c.refusedTransports.Load(), RefusedStreams: c.refusedStreams.Load(),
		Limited: c.limited.Load(), StaleNonces: c.staleNonces.Load(), Unsent: c.unsent.Load(), Throttled: c.throttled.Load(),
		Malformed: c.malformed.Load(), DroppedPeer: c.droppedPeer.Load(),
		ToPeers: c.toPeers.Load(), FromPeers: c.fromPeers.Load(),
		ToPeersBytes: c.toPeersBytes.Load(), FromPeersBytes: c.fromPeersBytes.Load(),
	}
}

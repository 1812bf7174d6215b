package callmedia

import (
	"sync/atomic"

	"multifactorymodel.org/ewindow/callmedia/sfu"
)

// Counters count what sessions do. Several sessions, one after another, may share them. The zero value is ready, and any goroutine may read it.
type Counters struct {
	framesSent, bytesSent, framesReceived, bytesReceived           atomic.Uint64
	gated, unpublished, withoutKeyFrame, noOwnKey                  atomic.Uint64
	unencryptable, unsent                                          atomic.Uint64
	unwanted, injected, noKey, undecryptable, withheld             atomic.Uint64
	packetsLost, packetsLate, packetsDuplicate, packetsOrphaned    atomic.Uint64
	malformed, unencrypted, keysRefused, keyFramesAsked, connected atomic.Uint64

	room atomic.Pointer[sfu.Room] // of the own SFU while it is joined
}

// Stats is a snapshot of [Counters]. Frames and bytes are encrypted ones, without RTP.
type Stats struct {
	FramesSent, BytesSent, FramesReceived, BytesReceived uint64
	// Frames of ours that were not sent: Gated while sending was off, Unpublished while no SFU was joined, WithoutKeyFrame before the first
	// key frame, NoOwnKey without a key to encrypt with, Unencryptable because they were malformed, Unsent because the connection to the
	// SFU refused them.
	Gated, Unpublished, WithoutKeyFrame, NoOwnKey, Unencryptable, Unsent uint64
	// Frames of others that were not shown: Unwanted because their sender is not shown, Injected because the SFU made them, NoKey because
	// their key is missing, Undecryptable because the key is wrong or the frame was damaged, Withheld because a frame that they refer to is
	// missing.
	Unwanted, Injected, NoKey, Undecryptable, Withheld uint64
	// PacketsLost did not come in time. PacketsLate came when nobody waited for them any more, PacketsDuplicate came twice, PacketsOrphaned
	// were dropped because the rest of their frame did not come. Malformed packets were no RTP, or not the codec's.
	PacketsLost, PacketsLate, PacketsDuplicate, PacketsOrphaned, Malformed uint64
	// Unencrypted counts tracks refused because they were not announced as encrypted with GCM.
	Unencrypted uint64
	// KeysRefused counts keys that could not be used, KeyFramesAsked requests for key frames to others, Connected how often the own SFU was
	// joined.
	KeysRefused, KeyFramesAsked, Connected uint64
	// SFU is about the connection to the own SFU: zero while there is none, and counted anew from each join on.
	SFU sfu.Stats
}

// Stats returns what was counted so far.
func (c *Counters) Stats() Stats {
	s := Stats{
		FramesSent: c.framesSent.Load(), BytesSent: c.bytesSent.Load(),
		FramesReceived: c.framesReceived.Load(), BytesReceived: c.bytesReceived.Load(),
		Gated: c.gated.Load(), Unpublished: c.unpublished.Load(), WithoutKeyFrame: c.withoutKeyFrame.Load(),
		NoOwnKey: c.noOwnKey.Load(), Unencryptable: c.unencryptable.Load(), Unsent: c.unsent.Load(),
		Unwanted: c.unwanted.Load(), Injected: c.injected.Load(), NoKey: c.noKey.Load(), Undecryptable: c.undecryptable.Load(),
		Withheld: c.withheld.Load(), PacketsLost: c.packetsLost.Load(), PacketsLate: c.packetsLate.Load(),
		PacketsDuplicate: c.packetsDuplicate.Load(), PacketsOrphaned: c.packetsOrphaned.Load(), Malformed: c.malformed.Load(), Unencrypted: c.unencrypted.Load(),
		KeysRefused: c.keysRefused.Load(), KeyFramesAsked: c.keyFramesAsked.Load(), Connected: c.connected.Load(),
	}
	if room := c.room.Load(); room != nil {
		s.SFU = room.Stats()
	}
	return s
}

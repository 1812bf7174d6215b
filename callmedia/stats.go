package callmedia

import "sync/atomic"

// counters are a session's, written by many goroutines.
type counters struct {
	framesSent, bytesSent, framesReceived, bytesReceived           atomic.Uint64
	gated, unpublished, withoutKeyFrame, noOwnKey                  atomic.Uint64
	unencryptable, unsent                                          atomic.Uint64
	unwanted, injected, noKey, undecryptable, packetsLost          atomic.Uint64
	malformed, unencrypted, keysRefused, keyFramesAsked, connected atomic.Uint64
}

// Stats counts what a [Session] has done since it was made. Frames and bytes are encrypted ones, without RTP.
type Stats struct {
	FramesSent, BytesSent, FramesReceived, BytesReceived uint64
	// Frames of ours that were not sent: Gated while sending was off, Unpublished while there was no SFU, WithoutKeyFrame before
	// the first key frame, NoOwnKey without a key to encrypt with, Unencryptable because they were malformed, Unsent because the
	// SFU's connection refused them.
	Gated, Unpublished, WithoutKeyFrame, NoOwnKey, Unencryptable, Unsent uint64
	// Frames of others that were not shown: Unwanted since their sender is not, Injected by the SFU, NoKey without a key,
	// Undecryptable with a wrong key or damaged.
	Unwanted, Injected, NoKey, Undecryptable uint64
	// PacketsLost came too late or never, Malformed were no RTP or not the codec's.
	PacketsLost, Malformed uint64
	// Unencrypted counts tracks refused because they were not announced as encrypted with GCM.
	Unencrypted uint64
	// KeysRefused counts keys that could not be used, KeyFramesAsked requests for key frames to others, Connected how often the
	// own SFU was joined.
	KeysRefused, KeyFramesAsked, Connected uint64
}

// Stats returns what was counted so far.
func (s *Session) Stats() Stats {
	c := &s.stats
	return Stats{
		FramesSent: c.framesSent.Load(), BytesSent: c.bytesSent.Load(),
		FramesReceived: c.framesReceived.Load(), BytesReceived: c.bytesReceived.Load(),
		Gated: c.gated.Load(), Unpublished: c.unpublished.Load(), WithoutKeyFrame: c.withoutKeyFrame.Load(),
		NoOwnKey: c.noOwnKey.Load(), Unencryptable: c.unencryptable.Load(), Unsent: c.unsent.Load(),
		Unwanted: c.unwanted.Load(), Injected: c.injected.Load(), NoKey: c.noKey.Load(), Undecryptable: c.undecryptable.Load(),
		PacketsLost: c.packetsLost.Load(), Malformed: c.malformed.Load(), Unencrypted: c.unencrypted.Load(),
		KeysRefused: c.keysRefused.Load(), KeyFramesAsked: c.keyFramesAsked.Load(), Connected: c.connected.Load(),
	}
}

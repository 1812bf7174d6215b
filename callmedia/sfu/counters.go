package sfu

import "sync/atomic"

// counters are what Stats tells beside the counters of the tracks.
type counters struct {
	keyFramesAsked atomic.Uint64
	unknownSignals atomic.Uint64
	stray          atomic.Uint64
	refused        atomic.Uint64
	badRTCP        atomic.Uint64
}

package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"multifactorymodel.org/ewindow/callmedia/focus"
)

// Focus shows what a MatrixRTC authorisation service counts.
func Focus(read func() focus.Stats) prometheus.Collector {
	type S = focus.Stats
	const (
		tokens  = "Tokens for LiveKit that were given out, by what they allow: full lets people make a call's SFU room, restricted only join it."
		refused = "Requests for a token that were refused, by reason."
	)
	return part[S]{read, []metric[S]{
		counter("focus_tokens", tokens, func(s S) uint64 { return s.Full }, "access", "full"),
		counter("focus_tokens", tokens, func(s S) uint64 { return s.Restricted }, "access", "restricted"),
		counter("focus_refused", refused, func(s S) uint64 { return s.Bad }, "reason", "malformed"),
		counter("focus_refused", refused, func(s S) uint64 { return s.Unauthorized }, "reason", "unauthorized"),
		counter("focus_refused", refused, func(s S) uint64 { return s.Forbidden }, "reason", "forbidden"),
		counter("focus_refused", refused, func(s S) uint64 { return s.Limited }, "reason", "limited"),
		counter("focus_refused", refused, func(s S) uint64 { return s.Failed }, "reason", "livekit"),
	}}
}

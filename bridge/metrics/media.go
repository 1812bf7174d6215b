package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"multifactorymodel.org/ewindow/callmedia"
)

// Media shows what the sessions of a window's calls count. The metrics whose names begin with sfu_ are about the connection to the window's
// own SFU. They begin at zero with each connection, and are zero while there is none.
func Media(read func() callmedia.Stats) prometheus.Collector {
	type S = callmedia.Stats
	const (
		frames  = "Encrypted frames that were sent and received."
		bytes   = "Bytes of encrypted frames, without RTP."
		unsent  = "Frames of ours that were not sent, by reason."
		unshown = "Frames of others that were not shown, by reason."
		dropped = "RTP packets of others that came and were of no use, by reason."
		pli     = "Requests for key frames (PLI, FIR), by who asked."
		signals = "Messages of LiveKit's signalling that were ignored, by reason."
	)
	return part[S]{read, []metric[S]{
		counter("media_frames", frames, func(s S) uint64 { return s.FramesSent }, "direction", "sent"),
		counter("media_frames", frames, func(s S) uint64 { return s.FramesReceived }, "direction", "received"),
		counter("media_frame_bytes", bytes, func(s S) uint64 { return s.BytesSent }, "direction", "sent"),
		counter("media_frame_bytes", bytes, func(s S) uint64 { return s.BytesReceived }, "direction", "received"),
		counter("media_frames_unsent", unsent, func(s S) uint64 { return s.Gated }, "reason", "sending_off"),
		counter("media_frames_unsent", unsent, func(s S) uint64 { return s.Unpublished }, "reason", "no_sfu"),
		counter("media_frames_unsent", unsent, func(s S) uint64 { return s.WithoutKeyFrame }, "reason", "no_key_frame"),
		counter("media_frames_unsent", unsent, func(s S) uint64 { return s.NoOwnKey }, "reason", "no_media_key"),
		counter("media_frames_unsent", unsent, func(s S) uint64 { return s.Unencryptable }, "reason", "malformed"),
		counter("media_frames_unsent", unsent, func(s S) uint64 { return s.Unsent }, "reason", "connection"),
		counter("media_frames_unshown", unshown, func(s S) uint64 { return s.Unwanted }, "reason", "sender_not_shown"),
		counter("media_frames_unshown", unshown, func(s S) uint64 { return s.Injected }, "reason", "made_by_sfu"),
		counter("media_frames_unshown", unshown, func(s S) uint64 { return s.NoKey }, "reason", "no_media_key"),
		counter("media_frames_unshown", unshown, func(s S) uint64 { return s.Undecryptable }, "reason", "undecryptable"),
		counter("media_frames_unshown", unshown, func(s S) uint64 { return s.Withheld }, "reason", "reference_missing"),
		counter("media_packets_lost", "RTP packets of others that did not come in time.", func(s S) uint64 { return s.PacketsLost }),
		counter("media_packets_dropped", dropped, func(s S) uint64 { return s.PacketsLate }, "reason", "late"),
		counter("media_packets_dropped", dropped, func(s S) uint64 { return s.PacketsDuplicate }, "reason", "duplicate"),
		counter("media_packets_dropped", dropped, func(s S) uint64 { return s.PacketsOrphaned }, "reason", "frame_incomplete"),
		counter("media_packets_malformed", "Packets of others that were no RTP, or not of their codec.", func(s S) uint64 { return s.Malformed }),
		counter("media_tracks_unencrypted", "Tracks that were refused because they were not announced as encrypted.", func(s S) uint64 { return s.Unencrypted }),
		counter("media_keys_refused", "Media keys that could not be used.", func(s S) uint64 { return s.KeysRefused }),
		counter("media_key_frames_requested", "Key frames that were requested from others.", func(s S) uint64 { return s.KeyFramesAsked }),
		counter("media_sfu_connections", "How often the window's own SFU was joined.", func(s S) uint64 { return s.Connected }),

		gauge("sfu_round_trip_seconds", "Last round trip of LiveKit's signalling.", func(s S) float64 { return s.SFU.RTT.Seconds() }),
		gauge("sfu_estimated_bits_per_second", "Estimated bandwidth of the connection to the SFU.", func(s S) int { return s.SFU.Bitrate }),
		gauge("sfu_estimated_bits_per_second_down", "Estimated bandwidth of the connection from the SFU, 0 while it has carried everything.", func(s S) int { return s.SFU.Downlink }),
		gauge("sfu_fraction_lost", "Part of our packets that the SFU last reported as lost, of the worst track, 0 to 1.", func(s S) float64 { return s.SFU.FractionLost }),
		counter("sfu_packets_sent", "RTP packets that were sent to the SFU, without retransmissions.", func(s S) uint64 { return s.SFU.PacketsSent }),
		counter("sfu_bytes_sent", "Bytes of RTP payload that were sent to the SFU.", func(s S) uint64 { return s.SFU.BytesSent }),
		counter("sfu_nacks_received", "Messages of the SFU that ask for retransmissions.", func(s S) uint64 { return s.SFU.NACKsReceived }),
		counter("sfu_key_frame_requests", pli, func(s S) uint64 { return s.SFU.KeyFramesWanted }, "by", "sfu"),
		counter("sfu_key_frame_requests", pli, func(s S) uint64 { return s.SFU.KeyFramesAsked }, "by", "window"),
		counter("sfu_signals_ignored", signals, func(s S) uint64 { return s.SFU.UnknownSignals }, "reason", "unknown"),
		counter("sfu_signals_ignored", signals, func(s S) uint64 { return s.SFU.StraySignals }, "reason", "not_waited_for"),
		counter("sfu_refused", "Participants, tracks and candidates above the limits.", func(s S) uint64 { return s.SFU.Refused }),
		counter("sfu_other_data", "Data messages that were not ours, or came too often.", func(s S) uint64 { return s.SFU.OtherData }),
		counter("sfu_bad_rtcp", "RTCP that could not be read or used.", func(s S) uint64 { return s.SFU.BadRTCP }),
	}}
}

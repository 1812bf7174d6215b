package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/network"
	"multifactorymodel.org/ewindow/bot/rtc"
)

// Bot shows what the window's Matrix user counts.
func Bot(read func() bot.Stats) prometheus.Collector {
	type S = bot.Stats
	const dropped = "Encrypted messages that were dropped, by reason."
	metrics := []metric[S]{
		counter("bot_sync_responses", "Responses of /sync that were processed.", func(s S) uint64 { return s.Responses }),
		counter("bot_panics", "Handlers of events that ended in a panic.", func(s S) uint64 { return s.Panics }),
	}
	for _, reason := range []string{
		bot.DropStranger, bot.DropCleartext, bot.DropUndecryptable, bot.DropUnknownDevice, bot.DropUntrusted, bot.DropMalformed, bot.DropUnhandled,
		bot.DropTooMany,
	} {
		metrics = append(metrics, counter("bot_dropped", dropped, func(s S) uint64 { return s.Dropped[reason] }, "reason", reason))
	}
	return part[S]{read, metrics}
}

// Calls shows what the MatrixRTC signalling of a window counts.
func Calls(read func() rtc.Stats) prometheus.Collector {
	type S = rtc.Stats
	const (
		invalid = "What others sent for a call and could not be read, by kind."
		dropped = "What others sent for a call and was above a limit, by kind."
	)
	return part[S]{read, []metric[S]{
		counter("rtc_invalid", invalid, func(s S) uint64 { return s.InvalidMembers }, "kind", "membership"),
		counter("rtc_invalid", invalid, func(s S) uint64 { return s.InvalidKeys }, "kind", "media_key"),
		counter("rtc_invalid", invalid, func(s S) uint64 { return s.InvalidRings }, "kind", "ring"),
		counter("rtc_dropped", dropped, func(s S) uint64 { return s.DroppedMembers }, "kind", "membership"),
		counter("rtc_dropped", dropped, func(s S) uint64 { return s.DroppedKeys }, "kind", "media_key"),
		counter("rtc_dropped", dropped, func(s S) uint64 { return s.DroppedRings }, "kind", "ring"),
		counter("rtc_dropped", dropped, func(s S) uint64 { return s.DroppedEvents }, "kind", "event"),
		counter("rtc_refused_rings", "Rings, declines and legacy calls that came in the clear, too late, or from somebody who is not in the room.",
			func(s S) uint64 { return s.RefusedRings }),
	}}
}

// Network shows what the window counts in the network's Space.
func Network(read func() network.Stats) prometheus.Collector {
	type S = network.Stats
	return part[S]{read, []metric[S]{
		counter("network_refused_invitations", "Invitations that were refused, such as those of people who are no admins.",
			func(s S) uint64 { return s.RefusedInvitations }),
	}}
}

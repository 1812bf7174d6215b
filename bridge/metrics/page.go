package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"multifactorymodel.org/ewindow/bridge/kiosk"
)

// Page shows what the server of the window's page counts.
func Page(read func() kiosk.Counters) prometheus.Collector {
	type C = kiosk.Counters
	const (
		connections = "WebSockets that were accepted, by client: the page on the screen, or an observer such as the demonstration."
		refused     = "Requests and WebSockets that were refused or closed, by reason."
	)
	return part[C]{read, []metric[C]{
		counter("page_connections", connections, func(c C) uint64 { return c.Pages }, "client", "page"),
		counter("page_connections", connections, func(c C) uint64 { return c.Observers }, "client", "observer"),
		counter("page_refused", refused, func(c C) uint64 { return c.Refused }, "reason", "foreign_or_too_many"),
		counter("page_refused", refused, func(c C) uint64 { return c.Malformed }, "reason", "malformed"),
		counter("page_refused", refused, func(c C) uint64 { return c.Slow }, "reason", "slow"),
	}}
}

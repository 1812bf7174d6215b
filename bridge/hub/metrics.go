package hub

import (
	"github.com/prometheus/client_golang/prometheus"

	"multifactorymodel.org/ewindow/bridge/metrics"
)

// startMetrics shows what the hub's parts count.
func (h *hub) startMetrics() error {
	var parts []prometheus.Collector
	if h.relay != nil {
		parts = append(parts, metrics.Relay(h.relay.Counters))
	}
	if h.service != nil {
		parts = append(parts, metrics.Focus(h.service.Stats))
	}
	return metrics.Serve(h.parts, h.cfg.MetricsListen, h.cfg.Log, parts...)
}

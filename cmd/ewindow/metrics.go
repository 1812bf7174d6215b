package main

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/cmd/ewindow/config"
	"multifactorymodel.org/ewindow/turnserver"
)

// startMetrics serves figures for Prometheus where the configuration wants it. relay may be nil.
func startMetrics(cfg *config.Config, relay *turnserver.Server, parts *closers, log zerolog.Logger) error {
	if cfg.Metrics.Listen == "" {
		return nil
	}
	listener, err := listen("metrics.listen", cfg.Metrics.Listen)
	if err != nil {
		return err
	}
	var read func() turnserver.Counters
	if relay != nil {
		read = relay.Counters
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics(read))
	log.Info().Stringer("address", listener.Addr()).Msg("Metrics are served")
	serve(&http.Server{
		Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: discardLog,
	}, listener, parts)
	return nil
}

// metrics are the process's figures, and the relay's unless read is nil.
func metrics(read func() turnserver.Counters) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if read != nil {
		registry.MustRegister(relayMetrics{read})
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// relayMetrics turns a relay's counters into metrics when they are asked for.
type relayMetrics struct{ read func() turnserver.Counters }

var (
	turnAllocations = turnMetric("allocations", "Allocations that are open now.")
	turnStreams     = turnMetric("streams", "TCP and TLS connections that are open now.")
	turnCreated     = turnMetric("allocations_created_total", "Allocations that were made.")
	turnRefused     = turnMetric("refused_total", "Requests and connections that were refused, by reason.", "reason")
	turnDropped     = turnMetric("dropped_total", "Messages and packets that were dropped without an answer, by reason.", "reason")
	turnPackets     = turnMetric("relayed_packets_total", "Packets that were relayed.", "direction")
	turnBytes       = turnMetric("relayed_bytes_total", "Bytes that were relayed, without headers.", "direction")
)

func turnMetric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("ewindow_turn_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (m relayMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{turnAllocations, turnStreams, turnCreated, turnRefused, turnDropped, turnPackets, turnBytes} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m relayMetrics) Collect(to chan<- prometheus.Metric) {
	c := m.read()
	gauge := func(d *prometheus.Desc, value int) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value))
	}
	count := func(d *prometheus.Desc, value uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	gauge(turnAllocations, c.Allocations)
	gauge(turnStreams, c.Streams)
	count(turnCreated, c.Created)
	count(turnRefused, c.RefusedLogins, "login")
	count(turnRefused, c.StaleNonces, "stale_nonce")
	count(turnRefused, c.RefusedQuota, "quota")
	count(turnRefused, c.RefusedPeers, "peer")
	count(turnRefused, c.RefusedTransports, "transport")
	count(turnRefused, c.RefusedStreams, "streams")
	count(turnDropped, c.Limited, "limited")
	count(turnDropped, c.Throttled, "bitrate")
	count(turnDropped, c.Unsent, "unsent")
	count(turnDropped, c.Malformed, "malformed")
	count(turnDropped, c.DroppedPeer, "peer")
	count(turnPackets, c.ToPeers, "to_peers")
	count(turnPackets, c.FromPeers, "from_peers")
	count(turnBytes, c.ToPeersBytes, "to_peers")
	count(turnBytes, c.FromPeersBytes, "from_peers")
}

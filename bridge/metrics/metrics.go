// Package metrics shows what the parts of a kiosk or a hub count, for Prometheus.
//
// [Serve] opens the address of metrics.listen. Each part has a function here that turns the part's counters into a
// [prometheus.Collector]: [Relay] and [Focus] for a hub, [Bot], [Calls], [Network], [Media] and [Page] for a kiosk. To show another
// number, add it to the part's table; a test fails when one is missing. The names are ewindow_<part>_<what>, and end in _total when they only grow.
//
// The counters are read when Prometheus asks. Nothing here has a goroutine or keeps numbers of its own.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bridge/lifecycle"
)

// Serve serves the numbers of the process and of its parts at /metrics, as one more part of the group. If address is empty, it does nothing.
// An error says that the address can't be opened.
func Serve(group *lifecycle.Group, address string, log zerolog.Logger, parts ...prometheus.Collector) error {
	if address == "" {
		return nil
	}
	listener, err := lifecycle.Listen("metrics.listen", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", handler(parts...))
	log.Info().Stringer("address", listener.Addr()).Msg("Metrics are served")
	group.ServeHTTP(&http.Server{
		Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
	}, listener)
	return nil
}

func handler(parts ...prometheus.Collector) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(parts...)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// metric is one row of a part's table: one number of the part's counters S, with a name. Rows with the same name have different label values.
type metric[S any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(S) float64
}

// number is a type of the numbers that parts count.
type number interface{ int | uint64 | float64 }

// gauge is a row for a number that goes up and down. name is without "ewindow_".
func gauge[S any, N number](name, help string, value func(S) N) metric[S] {
	return metric[S]{describe(name, help), prometheus.GaugeValue, func(s S) float64 { return float64(value(s)) }}
}

// counter is a row for a number that only grows. name is without "ewindow_" and "_total". label is nothing, or a label's name and value.
func counter[S any, N number](name, help string, value func(S) N, label ...string) metric[S] {
	return metric[S]{describe(name+"_total", help, label...), prometheus.CounterValue, func(s S) float64 { return float64(value(s)) }}
}

func describe(name, help string, label ...string) *prometheus.Desc {
	labels := prometheus.Labels{}
	if len(label) == 2 {
		labels[label[0]] = label[1]
	}
	return prometheus.NewDesc("ewindow_"+name, help, nil, labels)
}

// part is a prometheus.Collector for the counters of one part.
type part[S any] struct {
	read    func() S
	metrics []metric[S]
}

// Describe implements prometheus.Collector.
func (p part[S]) Describe(to chan<- *prometheus.Desc) {
	for _, m := range p.metrics {
		to <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (p part[S]) Collect(to chan<- prometheus.Metric) {
	counters := p.read()
	for _, m := range p.metrics {
		to <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(counters))
	}
}

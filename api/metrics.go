package api

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/watchbox-go/watchbox/internal/hub"
	"github.com/watchbox-go/watchbox/internal/latency"
)

// collector reads the hub's counters when Prometheus asks, so that metrics cost nothing otherwise.
type collector struct{ hub *hub.Hub }

func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.hub.Stats()
	var labels prometheus.Labels
	if id := c.hub.ID(); id != "" {
		labels = prometheus.Labels{"hub": id}
	}
	for i := range hub.Metrics {
		m := &hub.Metrics[i]
		kind := prometheus.GaugeValue
		if m.Counter {
			kind = prometheus.CounterValue
		}
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(m.Name, m.Help, nil, labels), kind, m.Value(&s))
	}
	for i := range hub.Latencies {
		l := &hub.Latencies[i]
		ch <- histogram(l, l.Counts(&s))
	}
}

// histogram returns a histogram with a bucket for every second power of two, from 16 µs to 17 s.
func histogram(l *hub.Latency, c *latency.Counts) prometheus.Metric {
	buckets := map[float64]uint64{}
	for n := 14; n <= 34; n += 2 {
		buckets[time.Duration(1<<n).Seconds()] = c.Below(n)
	}
	return prometheus.MustNewConstHistogram(prometheus.NewDesc(l.Name, l.Help, nil, nil), c.Total(), c.Sum().Seconds(), buckets)
}

// metrics serves the hub's metrics from a registry of its own, separate from the embedding program's.
func (a *api) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{a.hub}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

package api

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/watchbox-go/watchbox/internal/hub"
)

// collector reads the hub's counters when Prometheus asks, so that metrics cost nothing otherwise.
type collector struct{ hub *hub.Hub }

func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.hub.Stats()
	for i := range hub.Metrics {
		m := &hub.Metrics[i]
		kind := prometheus.GaugeValue
		if m.Counter {
			kind = prometheus.CounterValue
		}
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(m.Name, m.Help, nil, nil), kind, m.Value(&s))
	}
}

// metrics serves the hub's metrics from a registry of its own, separate from the embedding program's.
func (a *api) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{a.hub}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

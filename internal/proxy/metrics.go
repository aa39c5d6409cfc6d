package proxy

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count requests that reached a credential. Others have no label to be counted under.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	open     prometheus.Gauge
}

func newMetrics() metrics {
	return metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grantway_proxy_requests_total", Help: "Requests through the proxy since the start of the process, by the status that the caller got; 0 when the caller went away first.",
		}, []string{"credential", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "grantway_proxy_seconds", Help: "Time from a request through the proxy to the header of its answer, waiting for its turn included.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"credential"}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "grantway_proxy_open", Help: "Requests and WebSockets that go through the proxy right now.",
		}),
	}
}

func (m *metrics) answered(credential string, status int, took time.Duration) {
	m.requests.WithLabelValues(credential, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(credential).Observe(took.Seconds())
}

// Describe implements prometheus.Collector.
func (p *Proxy) Describe(ch chan<- *prometheus.Desc) {
	p.metrics.requests.Describe(ch)
	p.metrics.seconds.Describe(ch)
	p.metrics.open.Describe(ch)
}

// Collect implements prometheus.Collector.
func (p *Proxy) Collect(ch chan<- prometheus.Metric) {
	p.metrics.requests.Collect(ch)
	p.metrics.seconds.Collect(ch)
	p.metrics.open.Collect(ch)
}

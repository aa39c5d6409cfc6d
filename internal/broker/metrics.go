package broker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	fetchesDesc = prometheus.NewDesc("grantway_token_fetches_total", "Token requests to providers since the start of the process.", []string{"credential", "outcome"}, nil)
	readsDesc   = prometheus.NewDesc("grantway_token_reads_total", "Tokens handed out since the start of the process.", []string{"credential"}, nil)
	hitsDesc    = prometheus.NewDesc("grantway_token_cache_hits_total", "Tokens handed out without waiting for a provider.", []string{"credential"}, nil)
	ageDesc     = prometheus.NewDesc("grantway_token_age_seconds", "Age of the token in memory.", []string{"credential"}, nil)
	expiryDesc  = prometheus.NewDesc("grantway_token_expiry_seconds", "Seconds until the token in memory expires.", []string{"credential"}, nil)
	waitersDesc = prometheus.NewDesc("grantway_token_waiters", "Callers that wait for a token right now.", []string{"credential"}, nil)
	countDesc   = prometheus.NewDesc("grantway_credentials", "Number of credentials.", nil, nil)
	awayDesc    = prometheus.NewDesc("grantway_database_away", "1 while token requests go on without the database.", nil, nil)
)

// Describe implements prometheus.Collector.
func (b *Broker) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{fetchesDesc, readsDesc, hitsDesc, ageDesc, expiryDesc, waitersDesc, countDesc, awayDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Credentials that nobody used since the start
// have no series of their own, so that their number does not matter.
func (b *Broker) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	now, count := time.Now(), 0
	for _, v := range b.heads.byID.Range {
		h := v.(*head)
		count++
		state := b.cache.Peek(b.key(h, ""))
		if state.Token != nil {
			gauge(ageDesc, now.Sub(state.Token.IssuedAt).Seconds(), h.name)
			gauge(expiryDesc, state.Token.ExpiresAt.Sub(now).Seconds(), h.name)
		}
		used := state.Token != nil || state.Fetching
		for outcome := range h.usage.fetches {
			if n := h.usage.fetches[outcome].Load(); n > 0 {
				counter(fetchesDesc, n, h.name, outcomeNames[outcome])
				used = true
			}
		}
		if reads := h.usage.reads.Load(); reads > 0 || used {
			counter(readsDesc, reads, h.name)
			counter(hitsDesc, h.usage.hits.Load(), h.name)
			gauge(waitersDesc, float64(state.Waiters), h.name)
		}
	}
	gauge(countDesc, float64(count))
	away := 0.0
	if b.away.Load() {
		away = 1
	}
	gauge(awayDesc, away)
}

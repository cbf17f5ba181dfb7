package metrics

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// inboxCollector asks the running gateways when the metrics are scraped.
type inboxCollector struct {
	events, quarantined, lost, lostAt, bytes, limit, up *prometheus.Desc
	reading, bodies, bodiesLimit                        *prometheus.Desc
	deliveries, oldest, atOnce, held                    *prometheus.Desc // of each destination
	ask                                                 askingDescs
}

// Describe implements prometheus.Collector.
func (c inboxCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range append(c.ask.all(),
		c.events, c.quarantined, c.lost, c.lostAt, c.bytes, c.limit, c.up,
		c.reading, c.bodies, c.bodiesLimit,
		c.deliveries, c.oldest, c.atOnce, c.held,
	) {
		ch <- desc
	}
}

// scrapeTimeout bounds how long one inbox may delay a scrape.
const scrapeTimeout = 2 * time.Second

// Collect implements prometheus.Collector.
func (c inboxCollector) Collect(ch chan<- prometheus.Metric) {
	gateway.Each(func(config *gateway.Config, g *gateway.Gateway) {
		s := scrape{c, ch, config}
		s.collect(g)
	})
}

// scrape collects what is to be said of one handler.
type scrape struct {
	inboxCollector
	ch     chan<- prometheus.Metric
	config *gateway.Config
}

func (s scrape) gauge(desc *prometheus.Desc, value float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append([]string{s.config.Name}, labels...)...)
}

func (s scrape) collect(g *gateway.Gateway) {
	bodies := s.config.Handler.Bodies()
	s.gauge(s.reading, float64(bodies.Reading))
	s.gauge(s.bodies, float64(bodies.Bytes))
	s.gauge(s.bodiesLimit, float64(bodies.Limit))

	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	s.asking(ctx, g)
	stats, err := g.Inbox().Stats(ctx)
	s.gauge(s.up, oneIf(err == nil))
	if err != nil {
		s.config.Logger.Error("reading the inbox for its metrics", zap.Error(err))
		s.destinations(g.Destinations(s.config, nil))
		return
	}
	s.destinations(g.Destinations(s.config, &stats))
	for _, state := range inbox.States {
		s.gauge(s.events, float64(stats.Events[state]), state.String())
	}
	s.gauge(s.quarantined, float64(stats.Quarantined))
	s.gauge(s.lost, float64(stats.Lost))
	var lostAt float64
	if !stats.LostAt.IsZero() {
		lostAt = float64(stats.LostAt.Unix())
	}
	s.gauge(s.lostAt, lostAt)
	s.gauge(s.bytes, float64(stats.Bytes))
	if stats.MaxBytes > 0 {
		s.gauge(s.limit, float64(stats.MaxBytes))
	}
}

// destinations collects what is known of each destination.
func (s scrape) destinations(all []control.Destination) {
	for i := range all {
		d := &all[i]
		if d.Pressure != nil {
			s.gauge(s.atOnce, float64(d.Pressure.Limit), d.Name)
			for _, by := range []string{control.ByOperator, control.ByUpstream} {
				s.gauge(s.held, oneIf(slices.ContainsFunc(d.Holds, func(h control.Hold) bool { return h.By == by })), d.Name, by)
			}
		}
		if d.Deliveries == nil {
			continue
		}
		var age float64
		if d.OldestPending != nil {
			age = max(0, time.Since(*d.OldestPending).Seconds())
		}
		s.gauge(s.oldest, age, d.Name)
		for state, n := range map[inbox.State]int64{
			inbox.Pending:    d.Deliveries.Pending,
			inbox.Delivered:  d.Deliveries.Delivered,
			inbox.Superseded: d.Deliveries.Superseded,
			inbox.Dead:       d.Deliveries.Dead,
		} {
			s.gauge(s.deliveries, float64(n), d.Name, state.String())
		}
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

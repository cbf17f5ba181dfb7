package fotorwebhook

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// metrics outlives configs. Caddy makes a new registry on every reload: the same
// collectors are registered there, so that their values go on.
var metrics = newGatewayMetrics()

// gatewayMetrics are the collectors of all handlers. Their labels are bounded:
// the handler's name, which is config, and fixed sets of words.
type gatewayMetrics struct {
	callbacks       *prometheus.CounterVec
	answerDuration  *prometheus.HistogramVec
	deliveries      *prometheus.CounterVec
	attemptDuration *prometheus.HistogramVec
	deliveryAge     *prometheus.HistogramVec
	noticesDropped  *prometheus.CounterVec
	inboxes         inboxCollector
}

func newGatewayMetrics() *gatewayMetrics {
	const ns, sub = "caddy", "fotor_webhook"
	handler := []string{"handler"}
	handlerOutcome := []string{"handler", "outcome"}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(ns, sub, name), help, append(handler, labels...), nil)
	}
	return &gatewayMetrics{
		callbacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "callbacks_total",
			Help: "Requests that reached the handler, by what became of them.",
		}, handlerOutcome),
		answerDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: "answer_duration_seconds",
			Help:    "Time from a request's headers to its answer, durable storage included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, handler),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "deliveries_total",
			Help: "Delivery attempts, by what became of the event: delivered, retry, dead or released (handed back unspent).",
		}, handlerOutcome),
		attemptDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: "attempt_duration_seconds",
			Help:    "Time that a delivery attempt took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, handler),
		deliveryAge: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: "delivery_age_seconds",
			Help:    "Age of events when the upstream took them, from the arrival of the callback.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 5, 15, 60, 300, 1800, 3600, 21600, 86400, 259200},
		}, handler),
		noticesDropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "notices_dropped_total",
			Help: "Notices that never became Caddy events because the handlers of those were too slow.",
		}, handler),
		inboxes: inboxCollector{
			events:      desc("events", "Events in the inbox, by state.", "state"),
			oldest:      desc("oldest_pending_age_seconds", "Age of the oldest pending event; 0 if none is pending."),
			quarantined: desc("quarantined", "Distinct callbacks in quarantine."),
			lost:        desc("lost_events", "Events that are gone from the inbox's storage though they had not been delivered and nobody purged them."),
			lostAt:      desc("last_loss_timestamp_seconds", "When events were lost last, in seconds since 1970; 0 if never."),
			bytes:       desc("inbox_bytes", "Room that the inbox takes on disk."),
			limit:       desc("inbox_limit_bytes", "Size at which the inbox is full; absent if it has no limit."),
			atOnce:      desc("attempt_limit", "Most attempts that are made at once: the configured number, fewer while the upstream is under pressure, 1 or 0 while deliveries are held."),
			held:        desc("held", "1 while deliveries are held, by hand or because the upstream is in trouble, else 0."),
			reading:     desc("bodies_reading", "Callbacks whose bodies have not come whole."),
			bodies:      desc("body_bytes", "Memory that bodies of callbacks take until they are stored."),
			bodiesLimit: desc("body_limit_bytes", "Most memory that bodies of callbacks may take."),
			up:          desc("inbox_up", "1 if the inbox answers, else 0."),
		},
	}
}

// registerMetrics adds the collectors to a config's registry. Handlers of one
// config share a registry, so the same collector may be there already.
func registerMetrics(registry *prometheus.Registry) error {
	if registry == nil {
		return nil
	}
	for _, collector := range []prometheus.Collector{
		metrics.callbacks, metrics.answerDuration, metrics.deliveries,
		metrics.attemptDuration, metrics.deliveryAge, metrics.noticesDropped, metrics.inboxes,
	} {
		var registered prometheus.AlreadyRegisteredError
		if err := registry.Register(collector); err != nil && !errors.As(err, &registered) {
			return err
		}
	}
	return nil
}

// handlerMetrics are the collectors of one handler, looked up once.
type handlerMetrics struct {
	callbacks       map[gateway.Outcome]prometheus.Counter
	answerDuration  prometheus.Observer
	deliveries      map[inbox.Verdict]prometheus.Counter
	attemptDuration prometheus.Observer
	deliveryAge     prometheus.Observer
	noticesDropped  prometheus.Counter
}

var verdictLabels = map[inbox.Verdict]string{
	inbox.Deliver: "delivered",
	inbox.Retry:   "retry",
	inbox.GiveUp:  "dead",
	inbox.Release: "released",
}

func (m *gatewayMetrics) forHandler(name string) *handlerMetrics {
	h := &handlerMetrics{
		callbacks:       make(map[gateway.Outcome]prometheus.Counter),
		answerDuration:  m.answerDuration.WithLabelValues(name),
		deliveries:      make(map[inbox.Verdict]prometheus.Counter),
		attemptDuration: m.attemptDuration.WithLabelValues(name),
		deliveryAge:     m.deliveryAge.WithLabelValues(name),
		noticesDropped:  m.noticesDropped.WithLabelValues(name),
	}
	for _, outcome := range gateway.Outcomes {
		h.callbacks[outcome] = m.callbacks.WithLabelValues(name, string(outcome))
	}
	for verdict, label := range verdictLabels {
		h.deliveries[verdict] = m.deliveries.WithLabelValues(name, label)
	}
	return h
}

func (m *handlerMetrics) answered(outcome gateway.Outcome, took time.Duration) {
	m.callbacks[outcome].Inc()
	m.answerDuration.Observe(took.Seconds())
}

// Attempted implements gateway.Metrics.
func (m *handlerMetrics) Attempted(verdict inbox.Verdict, took, age time.Duration) {
	m.deliveries[verdict].Inc()
	m.attemptDuration.Observe(took.Seconds())
	if verdict == inbox.Deliver {
		m.deliveryAge.Observe(age.Seconds())
	}
}

// NoticesDropped implements gateway.Metrics.
func (m *handlerMetrics) NoticesDropped(n int64) { m.noticesDropped.Add(float64(n)) }

// inboxCollector asks the running gateways when the metrics are scraped.
type inboxCollector struct {
	events, oldest, quarantined, lost, lostAt, bytes, limit, up *prometheus.Desc
	atOnce, held, reading, bodies, bodiesLimit                  *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c inboxCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		c.events, c.oldest, c.quarantined, c.lost, c.lostAt, c.bytes, c.limit, c.up,
		c.atOnce, c.held, c.reading, c.bodies, c.bodiesLimit,
	} {
		ch <- desc
	}
}

// scrapeTimeout bounds how long one inbox may delay a scrape.
const scrapeTimeout = 2 * time.Second

// Collect implements prometheus.Collector.
func (c inboxCollector) Collect(ch chan<- prometheus.Metric) {
	gateway.Each(func(config *gateway.Config, g *gateway.Gateway) { c.collect(ch, config, g) })
}

func (c inboxCollector) collect(ch chan<- prometheus.Metric, config *gateway.Config, g *gateway.Gateway) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append([]string{config.Name}, labels...)...)
	}
	gauge(c.atOnce, float64(g.Pressure().Limit))
	gauge(c.held, oneIf(g.Held()))
	bodies := config.Handler.Bodies()
	gauge(c.reading, float64(bodies.Reading))
	gauge(c.bodies, float64(bodies.Bytes))
	gauge(c.bodiesLimit, float64(bodies.Limit))

	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	stats, err := g.Inbox().Stats(ctx)
	gauge(c.up, oneIf(err == nil))
	if err != nil {
		config.Logger.Error("reading the inbox for its metrics", zap.Error(err))
		return
	}
	for _, state := range inbox.States {
		gauge(c.events, float64(stats.Events[state]), state.String())
	}
	var age float64
	if !stats.OldestPending.IsZero() {
		age = max(0, time.Since(stats.OldestPending).Seconds())
	}
	gauge(c.oldest, age)
	gauge(c.quarantined, float64(stats.Quarantined))
	gauge(c.lost, float64(stats.Lost))
	var lostAt float64
	if !stats.LostAt.IsZero() {
		lostAt = float64(stats.LostAt.Unix())
	}
	gauge(c.lostAt, lostAt)
	gauge(c.bytes, float64(stats.Bytes))
	if stats.MaxBytes > 0 {
		gauge(c.limit, float64(stats.MaxBytes))
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

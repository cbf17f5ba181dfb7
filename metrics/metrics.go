// Package metrics has the Prometheus metrics of the handlers. Counters and histograms
// outlive configs: metrics.go has those, and learnt.go what fotor_tasks counts. Gauges are
// asked for when they are scraped, see collect.go.
package metrics

import (
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// all outlives configs. Caddy makes a new registry on every reload: the same
// collectors are registered there, so that their values go on.
var all = newCollectors()

// collectors are the collectors of all handlers. Their labels are bounded:
// the names of handlers and destinations, which are config, and fixed sets of words. The
// series of a handler or a destination that no config has any more are removed, or reloads
// with ever new names would grow them for ever.
type collectors struct {
	callbacks       *prometheus.CounterVec
	answerDuration  *prometheus.HistogramVec
	deliveries      *prometheus.CounterVec
	attemptDuration *prometheus.HistogramVec
	deliveryAge     *prometheus.HistogramVec
	matchErrors     *prometheus.CounterVec
	noticesDropped  *prometheus.CounterVec
	asking          asking
	tasksLearnt     *prometheus.CounterVec
	inboxes         inboxCollector

	mu    sync.Mutex
	users map[string]int // of the handlers' metrics by their names
}

func newCollectors() *collectors {
	const ns, sub = "caddy", "fotor_webhook"
	handler := []string{"handler"}
	destination := []string{"handler", "destination"}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(ns, sub, name), help, append(handler, labels...), nil)
	}
	return &collectors{
		users: make(map[string]int),
		callbacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "callbacks_total",
			Help: "Requests that reached the handler, by what became of them.",
		}, []string{"handler", "outcome"}),
		answerDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: "answer_duration_seconds",
			Help:    "Time from a request's headers to its answer, durable storage included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, handler),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "deliveries_total",
			Help: "Delivery attempts, by what became of the event: delivered, retry, dead or released (handed back unspent).",
		}, []string{"handler", "destination", "outcome"}),
		attemptDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: "attempt_duration_seconds",
			Help:    "Time that a delivery attempt took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, destination),
		deliveryAge: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: "delivery_age_seconds",
			Help:    "Age of events when the upstream took them, from the arrival of the callback.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 5, 15, 60, 300, 1800, 3600, 21600, 86400, 259200},
		}, destination),
		matchErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "match_errors_total",
			Help: "Events that went to a destination because it could not be told whether they fit its match.",
		}, destination),
		noticesDropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "notices_dropped_total",
			Help: "Notices that never became Caddy events because the handlers of those were too slow.",
		}, handler),
		asking: newAsking(ns, sub),
		tasksLearnt: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "tasks_learnt_total",
			Help: "Tasks in answers that passed fotor_tasks, and answers that could not be read, by what became of them.",
		}, []string{"handler", "result"}),
		inboxes: inboxCollector{
			ask:         newAskingDescs(desc),
			events:      desc("events", "Events in the inbox, by state.", "state"),
			deliveries:  desc("destination_events", "Events in the inbox by destination, and by the state of their delivery there.", "destination", "state"),
			oldest:      desc("oldest_pending_age_seconds", "Age of the oldest event whose delivery to the destination is pending; 0 if none is.", "destination"),
			quarantined: desc("quarantined", "Distinct callbacks in quarantine."),
			lost:        desc("lost_events", "Events that are gone from the inbox's storage though they had not been delivered and nobody purged them."),
			lostAt:      desc("last_loss_timestamp_seconds", "When events were lost last, in seconds since 1970; 0 if never."),
			bytes:       desc("inbox_bytes", "Room that the inbox takes on disk."),
			limit:       desc("inbox_limit_bytes", "Size at which the inbox is full; absent if it has no limit."),
			atOnce:      desc("attempt_limit", "Most attempts that are made at once: the configured number, fewer while the upstream is under pressure, 1 or 0 while deliveries are held.", "destination"),
			held:        desc("held", "1 while deliveries are held, by whom: operator, or upstream if it is in trouble; else 0.", "destination", "by"),
			reading:     desc("bodies_reading", "Callbacks whose bodies have not come whole."),
			bodies:      desc("body_bytes", "Memory that bodies of callbacks take until they are stored."),
			bodiesLimit: desc("body_limit_bytes", "Most memory that bodies of callbacks may take."),
			up:          desc("inbox_up", "1 if the inbox answers, else 0."),
		},
	}
}

// Register adds the collectors to a config's registry, nil for none. Handlers of one
// config share a registry, so the same collector may be there already.
func Register(registry *prometheus.Registry) error {
	if registry == nil {
		return nil
	}
	for _, collector := range append(all.asking.collectors(),
		all.callbacks, all.answerDuration, all.deliveries, all.attemptDuration,
		all.deliveryAge, all.matchErrors, all.noticesDropped, all.tasksLearnt, all.inboxes,
	) {
		var registered prometheus.AlreadyRegisteredError
		if err := registry.Register(collector); err != nil && !errors.As(err, &registered) {
			return err
		}
	}
	return nil
}

// Handler has the metrics of one handler, looked up once.
type Handler struct {
	name           string
	callbacks      map[gateway.Outcome]prometheus.Counter
	answerDuration prometheus.Observer
	noticesDropped prometheus.Counter
}

// Of returns the metrics of the handler of that name. They must be released.
func Of(name string) *Handler {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.users[name]++
	h := &Handler{
		name:           name,
		callbacks:      make(map[gateway.Outcome]prometheus.Counter),
		answerDuration: all.answerDuration.WithLabelValues(name),
		noticesDropped: all.noticesDropped.WithLabelValues(name),
	}
	for _, outcome := range gateway.Outcomes {
		h.callbacks[outcome] = all.callbacks.WithLabelValues(name, string(outcome))
	}
	return h
}

// Release ends one use of the metrics, and with the last one of its handler's name the
// series of the handler and its destinations. It may be called of nil.
func (h *Handler) Release() {
	if h != nil {
		all.release(h.name)
	}
}

// release ends one use of the metrics of the handler of that name.
func (c *collectors) release(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users[name]--; c.users[name] > 0 {
		return
	}
	delete(c.users, name)
	c.callbacks.DeletePartialMatch(prometheus.Labels{"handler": name})
	c.answerDuration.DeleteLabelValues(name)
	c.noticesDropped.DeleteLabelValues(name)
	c.tasksLearnt.DeletePartialMatch(prometheus.Labels{"handler": name})
	c.asking.forget(name)
	c.forget(prometheus.Labels{"handler": name})
}

// forget removes the series of destinations.
func (c *collectors) forget(labels prometheus.Labels) {
	c.deliveries.DeletePartialMatch(labels)
	c.attemptDuration.DeletePartialMatch(labels)
	c.deliveryAge.DeletePartialMatch(labels)
	c.matchErrors.DeletePartialMatch(labels)
}

// Answered counts the answer to a request, and how long it took.
func (h *Handler) Answered(outcome gateway.Outcome, took time.Duration) {
	h.callbacks[outcome].Inc()
	h.answerDuration.Observe(took.Seconds())
}

// NoticesDropped implements gateway.Metrics.
func (h *Handler) NoticesDropped(n int64) { h.noticesDropped.Add(float64(n)) }

// destination has the metrics of one destination of a handler, looked up once.
type destination struct {
	deliveries      map[inbox.Verdict]prometheus.Counter
	attemptDuration prometheus.Observer
	deliveryAge     prometheus.Observer
	matchErrors     prometheus.Counter
}

var verdictLabels = map[inbox.Verdict]string{
	inbox.Deliver: "delivered",
	inbox.Retry:   "retry",
	inbox.GiveUp:  "dead",
	inbox.Release: "released",
}

// Destination implements gateway.Metrics.
func (h *Handler) Destination(name string) gateway.DestinationMetrics {
	d := &destination{
		deliveries:      make(map[inbox.Verdict]prometheus.Counter),
		attemptDuration: all.attemptDuration.WithLabelValues(h.name, name),
		deliveryAge:     all.deliveryAge.WithLabelValues(h.name, name),
		matchErrors:     all.matchErrors.WithLabelValues(h.name, name),
	}
	for verdict, label := range verdictLabels {
		d.deliveries[verdict] = all.deliveries.WithLabelValues(h.name, name, label)
	}
	return d
}

// Forget implements gateway.Metrics.
func (h *Handler) Forget(name string) {
	all.forget(prometheus.Labels{"handler": h.name, "destination": name})
}

// Attempted implements gateway.DestinationMetrics.
func (d *destination) Attempted(verdict inbox.Verdict, took, age time.Duration) {
	d.deliveries[verdict].Inc()
	d.attemptDuration.Observe(took.Seconds())
	if verdict == inbox.Deliver {
		d.deliveryAge.Observe(age.Seconds())
	}
}

// MatchFailed implements gateway.DestinationMetrics.
func (d *destination) MatchFailed() { d.matchErrors.Inc() }

// Interface guards
var (
	_ gateway.Metrics            = (*Handler)(nil)
	_ gateway.DestinationMetrics = (*destination)(nil)
)

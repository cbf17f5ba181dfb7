package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/reconcile"
)

// asking counts the questions that are put to Fotor.
type asking struct {
	questions *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	lost      *prometheus.CounterVec
	confirmed *prometheus.CounterVec
}

func newAsking(ns, sub string) asking {
	handler := []string{"handler"}
	return asking{
		questions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "questions_total",
			Help: "Questions for tasks put to Fotor's API, by what they came to.",
		}, []string{"handler", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: "question_duration_seconds",
			Help:    "Time that a question took, with storing what was answered.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, handler),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "tasks_lost_total",
			Help: "Tasks that were given up because Fotor said no end of them.",
		}, handler),
		confirmed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "confirmations_total",
			Help: "Final callbacks of which Fotor's API was asked before delivery, by what that came to.",
		}, []string{"handler", "result"}),
	}
}

func (a *asking) collectors() []prometheus.Collector {
	return []prometheus.Collector{a.questions, a.duration, a.lost, a.confirmed}
}

// forget removes the series of a handler.
func (a *asking) forget(handler string) {
	a.questions.DeletePartialMatch(prometheus.Labels{"handler": handler})
	a.duration.DeleteLabelValues(handler)
	a.lost.DeleteLabelValues(handler)
	a.confirmed.DeletePartialMatch(prometheus.Labels{"handler": handler})
}

// questions counts those of one handler.
type questions struct {
	results  map[reconcile.Result]prometheus.Counter
	duration prometheus.Observer
	lost     prometheus.Counter
}

// Questions returns the metrics of asking Fotor. Without it a handler has no such series.
func (h *Handler) Questions() gateway.AskingMetrics {
	q := &questions{
		results:  make(map[reconcile.Result]prometheus.Counter, len(reconcile.Results)),
		duration: all.asking.duration.WithLabelValues(h.name),
		lost:     all.asking.lost.WithLabelValues(h.name),
	}
	for _, r := range reconcile.Results {
		q.results[r] = all.asking.questions.WithLabelValues(h.name, string(r))
	}
	for _, c := range gateway.Confirmations {
		all.asking.confirmed.WithLabelValues(h.name, string(c))
	}
	return q
}

// Confirmation implements gateway.Metrics.
func (h *Handler) Confirmation(c gateway.Confirmation) {
	all.asking.confirmed.WithLabelValues(h.name, string(c)).Inc()
}

// Asked implements gateway.AskingMetrics.
func (q *questions) Asked(r reconcile.Result, took time.Duration) {
	q.results[r].Inc()
	q.duration.Observe(took.Seconds())
}

// TaskLost implements gateway.AskingMetrics.
func (q *questions) TaskLost() { q.lost.Inc() }

// askingDescs are the metrics about asking Fotor that are read when they are scraped, of
// handlers that do.
type askingDescs struct {
	works, rate, askers, waiting, due, oldest, dropped *prometheus.Desc
}

func newAskingDescs(desc func(name, help string, labels ...string) *prometheus.Desc) askingDescs {
	return askingDescs{
		works:   desc("asking", "1 if Fotor's API can be asked, 0 if it refuses the key, cannot be reached, or says only that it is asked too often; absent without fotor_api."),
		rate:    desc("question_rate", "Questions a second that are put to Fotor at most at the moment."),
		askers:  desc("askers", "Caddys that share the rate of the questions, with this one; absent if the inbox cannot be shared."),
		waiting: desc("tasks", "Tasks whose final callbacks have not come."),
		due:     desc("tasks_due", "Tasks that Fotor is to be asked for now."),
		oldest:  desc("oldest_task_age_seconds", "Age of the task whose final callback has been waited for longest; 0 if none is."),
		dropped: desc("tasks_dropped_total", "Tasks that were forgotten since the inbox was opened, because there were too many."),
	}
}

func (d askingDescs) all() []*prometheus.Desc {
	return []*prometheus.Desc{d.works, d.rate, d.askers, d.waiting, d.due, d.oldest, d.dropped}
}

// asking collects what is known of asking Fotor.
func (s scrape) asking(ctx context.Context, g *gateway.Gateway) {
	state := g.Asking()
	if state == nil {
		return
	}
	s.gauge(s.ask.works, oneIf(state.State == control.AskingWorks))
	s.gauge(s.ask.rate, state.Rate)
	if state.Share != nil {
		s.gauge(s.ask.askers, float64(state.Share.Askers))
	}
	tracker, ok := g.Inbox().(inbox.Tracker)
	if !ok {
		return
	}
	stats, err := tracker.TaskStats(ctx)
	if err != nil {
		s.config.Logger.Error("reading the tasks for the metrics", zap.Error(err))
		return
	}
	s.gauge(s.ask.waiting, float64(stats.Waiting))
	s.gauge(s.ask.due, float64(stats.Due))
	s.ch <- prometheus.MustNewConstMetric(s.ask.dropped, prometheus.CounterValue, float64(stats.Dropped), s.config.Name)
	var age float64
	if !stats.Oldest.IsZero() {
		age = max(0, time.Since(stats.Oldest).Seconds())
	}
	s.gauge(s.ask.oldest, age)
}

// Interface guard
var _ gateway.AskingMetrics = (*questions)(nil)

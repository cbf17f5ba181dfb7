package metrics

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const prefix = "caddy_fotor_webhook_"

// requireSeries compares the metrics of those names with lines as Prometheus gets them,
// without the prefix; of histograms with their counts.
func requireSeries(t *testing.T, want string, names ...string) {
	t.Helper()
	registry := prometheus.NewRegistry()
	require.NoError(t, Register(registry))
	require.NoError(t, Register(registry), "handlers of one config register twice")
	families, err := registry.Gather()
	require.NoError(t, err)
	var got strings.Builder
	for _, family := range families {
		name := strings.TrimPrefix(family.GetName(), prefix)
		if !slices.Contains(names, name) {
			continue
		}
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, l := range metric.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			value := metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
			fmt.Fprintf(&got, "%s{%s} %g\n", name, strings.Join(labels, ","), value)
		}
	}
	require.Equal(t, strings.TrimPrefix(want, "\n"), got.String())
}

func TestCountersOfDestinations(t *testing.T) {
	h, other := Of("h"), Of("other")
	defer h.Release()
	defer other.Release()
	app, staging := h.Destination("app"), h.Destination("staging")
	app.Attempted(inbox.Deliver, time.Second, time.Minute)
	app.Attempted(inbox.Retry, time.Second, time.Minute)
	staging.Attempted(inbox.GiveUp, time.Second, time.Minute)
	staging.MatchFailed()
	other.Destination("staging").MatchFailed()
	h.Destination("app").Attempted(inbox.Deliver, time.Second, time.Minute) // after a reload
	requireSeries(t, `
deliveries_total{destination="app",handler="h",outcome="dead"} 0
deliveries_total{destination="app",handler="h",outcome="delivered"} 2
deliveries_total{destination="app",handler="h",outcome="released"} 0
deliveries_total{destination="app",handler="h",outcome="retry"} 1
deliveries_total{destination="staging",handler="h",outcome="dead"} 1
deliveries_total{destination="staging",handler="h",outcome="delivered"} 0
deliveries_total{destination="staging",handler="h",outcome="released"} 0
deliveries_total{destination="staging",handler="h",outcome="retry"} 0
deliveries_total{destination="staging",handler="other",outcome="dead"} 0
deliveries_total{destination="staging",handler="other",outcome="delivered"} 0
deliveries_total{destination="staging",handler="other",outcome="released"} 0
deliveries_total{destination="staging",handler="other",outcome="retry"} 0
match_errors_total{destination="app",handler="h"} 0
match_errors_total{destination="staging",handler="h"} 1
match_errors_total{destination="staging",handler="other"} 1
`, "deliveries_total", "match_errors_total")

	h.Forget("staging")
	other.Forget("staging")
	requireSeries(t, `
deliveries_total{destination="app",handler="h",outcome="dead"} 0
deliveries_total{destination="app",handler="h",outcome="delivered"} 2
deliveries_total{destination="app",handler="h",outcome="released"} 0
deliveries_total{destination="app",handler="h",outcome="retry"} 1
match_errors_total{destination="app",handler="h"} 0
`, "deliveries_total", "match_errors_total")
	requireSeries(t, `
attempt_duration_seconds{destination="app",handler="h"} 3
delivery_age_seconds{destination="app",handler="h"} 2
`, "attempt_duration_seconds", "delivery_age_seconds")
}

// Reloads with ever new names of handlers, also ones that fail, leave no series behind.
func TestSeriesOfAHandlerEndWithItsLastUse(t *testing.T) {
	series := func() (n int) {
		registry := prometheus.NewRegistry()
		require.NoError(t, Register(registry))
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, family := range families {
			n += len(family.GetMetric())
		}
		return n
	}
	before := series()
	for i := range 100 {
		h := Of(fmt.Sprint("handler", i))
		h.Destination("a").Attempted(inbox.Deliver, time.Second, time.Minute)
		next := Of(fmt.Sprint("handler", i)) // of the config after
		next.Destination("b")
		h.Answered(gateway.Accepted, time.Second)
		h.Release()
		require.Greater(t, series(), before, "the next one goes on")
		next.Answered(gateway.Accepted, time.Second)
		next.Release()
		require.Equal(t, before, series())
		h.Answered(gateway.Accepted, time.Second) // a request that was under way
		next.NoticesDropped(1)
		require.Equal(t, before, series())
	}
	var none *Handler
	none.Release()
}

func TestLearntTasksAreCounted(t *testing.T) {
	h, learnt := Of("shop"), LearntFor("shop")
	learnt.Add(LearntStored, 2)
	LearntFor("shop").Add(LearntFailed, 1) // after a reload
	requireSeries(t, `
tasks_learnt_total{handler="shop",result="failed"} 1
tasks_learnt_total{handler="shop",result="invalid"} 0
tasks_learnt_total{handler="shop",result="known"} 0
tasks_learnt_total{handler="shop",result="stored"} 2
tasks_learnt_total{handler="shop",result="unread"} 0
`, "tasks_learnt_total")
	learnt.Release()
	h.Release()
	requireSeries(t, `
tasks_learnt_total{handler="shop",result="failed"} 1
tasks_learnt_total{handler="shop",result="invalid"} 0
tasks_learnt_total{handler="shop",result="known"} 0
tasks_learnt_total{handler="shop",result="stored"} 2
tasks_learnt_total{handler="shop",result="unread"} 0
`, "tasks_learnt_total")
	learnt.Release() // that of the config after
	requireSeries(t, "\n", "tasks_learnt_total")
	var none *Learnt
	none.Release()
}

// stand is an inbox that answers no more than its statistics.
type stand struct {
	inbox.Inbox

	stats inbox.Stats
	held  string // the destination that is held by hand
}

func (s *stand) Queue(_ context.Context, name string) (inbox.Queue, error) {
	return &standQueue{held: name == s.held}, nil
}

func (*stand) List(context.Context, inbox.Filter, inbox.Page) ([]*inbox.Record, string, error) {
	return nil, "", nil
}

func (s *stand) Stats(context.Context) (inbox.Stats, error) { return s.stats, nil }

func (*stand) Close() error { return nil }

// Open and Apply implement gateway.Storage.
func (s *stand) Open(context.Context, string, inbox.Policy, *zap.Logger) (inbox.Inbox, error) {
	return s, nil
}

func (*stand) Apply(inbox.Inbox, inbox.Policy) {}

// standQueue has nothing to deliver.
type standQueue struct {
	inbox.Queue
	held bool
}

func (q *standQueue) Hold(context.Context) (h inbox.Hold, err error) {
	if q.held {
		h.Since = time.Now()
	}
	return h, nil
}

func (*standQueue) Lease(ctx context.Context, _ int) ([]*inbox.Lease, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// facts are those of a handler.
type facts struct{}

func (facts) Config() control.Config { return control.Config{} }

func (facts) Bodies() control.Bodies { return control.Bodies{Reading: 1, Bytes: 2, Limit: 3} }

func (facts) Explain(netip.Addr, string) control.Explanation { return control.Explanation{} }

func (facts) Lost(inbox.Task, string, time.Time) *inbox.Event { return nil }

func (facts) Try(context.Context, netip.Addr, []byte) control.Tried { return control.Tried{} }

func (facts) Reconsider([]byte, time.Time, netip.Addr) (*inbox.Event, error) { return nil, nil }

// silent emits no Caddy events.
type silent struct{}

func (silent) ShouldEmit(string) bool { return false }

func (silent) Emit(string, map[string]any) {}

func TestGaugesOfDestinations(t *testing.T) {
	s := &stand{held: "staging", stats: inbox.Stats{
		Events: [len(inbox.States)]int64{inbox.Pending: 5, inbox.Dead: 6, inbox.Skipped: 7},
		Destinations: []inbox.DestinationStats{
			{Name: "app", Deliveries: [len(inbox.States)]int64{inbox.Pending: 1, inbox.Delivered: 2, inbox.Superseded: 3, inbox.Dead: 4}},
			{Name: "ended", Deliveries: [len(inbox.States)]int64{inbox.Delivered: 9}},
			{Name: "left", Deliveries: [len(inbox.States)]int64{inbox.Dead: 8}},
		},
	}}
	settings := dispatch.Settings{Concurrency: 3}
	ref := gateway.NewRef("g")
	defer ref.Close()
	of := Of("g")
	defer of.Release()
	att, err := gateway.Attach(t.Context(), &gateway.Config{
		Name: "g", Key: "stand", Storage: s, Grace: time.Second, Logger: zap.NewNop(), Metrics: of, Events: silent{}, Handler: facts{},
		Destinations: []gateway.Destination{{Name: "app", Dispatch: settings}, {Name: "staging", Dispatch: settings}},
	}, ref)
	require.NoError(t, err)
	defer func() {
		att.Detach()
		require.NoError(t, att.Release())
	}()
	requireSeries(t, `
attempt_limit{destination="app",handler="g"} 3
attempt_limit{destination="staging",handler="g"} 0
destination_events{destination="app",handler="g",state="dead"} 4
destination_events{destination="app",handler="g",state="delivered"} 2
destination_events{destination="app",handler="g",state="pending"} 1
destination_events{destination="app",handler="g",state="superseded"} 3
destination_events{destination="left",handler="g",state="dead"} 8
destination_events{destination="left",handler="g",state="delivered"} 0
destination_events{destination="left",handler="g",state="pending"} 0
destination_events{destination="left",handler="g",state="superseded"} 0
destination_events{destination="staging",handler="g",state="dead"} 0
destination_events{destination="staging",handler="g",state="delivered"} 0
destination_events{destination="staging",handler="g",state="pending"} 0
destination_events{destination="staging",handler="g",state="superseded"} 0
events{handler="g",state="dead"} 6
events{handler="g",state="delivered"} 0
events{handler="g",state="pending"} 5
events{handler="g",state="skipped"} 7
events{handler="g",state="superseded"} 0
held{by="operator",destination="app",handler="g"} 0
held{by="operator",destination="staging",handler="g"} 1
held{by="upstream",destination="app",handler="g"} 0
held{by="upstream",destination="staging",handler="g"} 0
oldest_pending_age_seconds{destination="app",handler="g"} 0
oldest_pending_age_seconds{destination="left",handler="g"} 0
oldest_pending_age_seconds{destination="staging",handler="g"} 0
`, "attempt_limit", "destination_events", "events", "held", "oldest_pending_age_seconds")
}

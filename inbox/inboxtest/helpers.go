package inboxtest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// made is the number of events made by NewEvent.
var made atomic.Int64

// NewEvent makes an event of the task that differs from all others of this
// process.
func NewEvent(task string, status inbox.Status) *inbox.Event {
	n := made.Add(1)
	return &inbox.Event{
		ID:         inbox.NewID(task, fmt.Append(nil, n)),
		TaskID:     task,
		Type:       "avatar",
		Status:     status,
		ReceivedAt: time.Now().UTC().Truncate(time.Microsecond),
		Body:       fmt.Appendf(nil, `{"n":%d}`, n),
	}
}

// Put stores events, none of which may be a duplicate.
func Put(t testing.TB, in inbox.Inbox, events ...*inbox.Event) {
	t.Helper()
	for _, e := range events {
		withPatience(func(ctx context.Context) {
			t.Helper()
			duplicateOf, err := in.Put(ctx, e)
			require.NoError(t, err)
			require.Empty(t, duplicateOf)
		})
	}
}

// Lease leases what is due until it has n leases.
func Lease(t testing.TB, in inbox.Leaser, n int) []*inbox.Lease {
	t.Helper()
	var leases []*inbox.Lease
	for len(leases) < n {
		withPatience(func(ctx context.Context) {
			t.Helper()
			more, err := in.Lease(ctx, n-len(leases))
			require.NoError(t, err)
			require.NotEmpty(t, more)
			require.LessOrEqual(t, len(more), n-len(leases))
			leases = append(leases, more...)
		})
	}
	return leases
}

// Settle settles the leases with the verdict. A retry or a release is due at once.
func Settle(t testing.TB, in inbox.Leaser, v inbox.Verdict, leases ...*inbox.Lease) {
	t.Helper()
	withPatience(func(ctx context.Context) {
		t.Helper()
		require.NoError(t, in.Settle(ctx, Outcomes(v, leases...)...))
	})
}

// Record returns the record of an event whose only destination is the default.
func Record(e *inbox.Event, p inbox.Progress, log []inbox.Attempt) *inbox.Record {
	return &inbox.Record{Event: e, Progress: p, Deliveries: []inbox.Delivery{{Destination: inbox.DefaultDestination, Progress: p, Log: log}}}
}

// Log returns the attempts of an event's only delivery, nil without a record.
func Log(r *inbox.Record) []inbox.Attempt {
	if r == nil || len(r.Deliveries) == 0 {
		return nil
	}
	return r.Deliveries[0].Log
}

var attemptTime = time.Date(2026, 11, 24, 8, 0, 0, 654321000, time.UTC)

// Outcome returns an outcome with a plausible attempt. A retry or a release is
// due at once.
func Outcome(v inbox.Verdict, l *inbox.Lease) inbox.Outcome {
	o := inbox.Outcome{Lease: l, Verdict: v}
	if v != inbox.Release {
		o.Attempt = inbox.Attempt{At: attemptTime.Add(time.Duration(l.Attempt) * time.Second), Duration: 250 * time.Millisecond, Status: 200}
	}
	if v == inbox.Retry || v == inbox.GiveUp {
		o.Attempt.Status, o.Attempt.Reason = 503, "service unavailable"
	}
	if v == inbox.Retry {
		o.Due = time.Now().Add(-time.Second)
	}
	return o
}

// Outcomes is Outcome for many leases.
func Outcomes(v inbox.Verdict, leases ...*inbox.Lease) []inbox.Outcome {
	outcomes := make([]inbox.Outcome, len(leases))
	for i, l := range leases {
		outcomes[i] = Outcome(v, l)
	}
	return outcomes
}

// Eventually waits until a condition holds.
func Eventually(t testing.TB, holds func() bool, messageAndArgs ...any) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			require.Fail(t, "the condition did not come to hold", messageAndArgs...)
		}
	}
}

// withPatience calls f with a context that ends when patience does.
func withPatience(f func(context.Context)) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	f(ctx)
}

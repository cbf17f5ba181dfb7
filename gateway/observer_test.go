package gateway

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// quickInbox can deliver an event before Put returns.
type quickInbox struct {
	inbox.Inbox
	put func(e *inbox.Event) (duplicateOf string, err error)
}

func (in quickInbox) Put(_ context.Context, e *inbox.Event) (string, error) { return in.put(e) }

// told puts an event and returns the kinds of the notices that were published.
func told(t *testing.T, put func(o observer, e *inbox.Event) (string, error)) []string {
	t.Helper()
	ref := NewRef(t.Name())
	defer ref.Close()
	follower, err := ref.journal.feed.Follow("")
	require.NoError(t, err)
	defer follower.Close()
	o := observer{zap.NewNop(), "app", new(fakeMetrics), ref.journal}
	g := &Gateway{inbox: quickInbox{put: func(e *inbox.Event) (string, error) { return put(o, e) }}}
	e := &inbox.Event{ID: inbox.NewID("task", nil), TaskID: "task", Type: "avatar", ReceivedAt: time.Now()}
	_, _ = ref.Put(t.Context(), g, e, netip.MustParseAddr("192.0.2.1"), nil)
	assert.Empty(t, ref.journal.arrivals.byKey, "nothing is left of it")

	ref.journal.feed.Close()
	kinds := []string{}
	for {
		entries, err := follower.Next(t.Context(), nil, 10)
		if err != nil {
			require.ErrorIs(t, err, control.ErrFeedClosed)
			return kinds
		}
		for _, entry := range entries {
			kinds = append(kinds, entry.Kind)
		}
	}
}

// However quick a delivery is, the notice that the callback was accepted comes first,
// and once.
func TestAcceptedIsToldFirst(t *testing.T) {
	attempt := func(o observer, e *inbox.Event, n int, verdict inbox.Verdict) {
		o.Attempted(&inbox.Lease{Event: e, Attempt: n}, dispatch.Result{Status: 204}, verdict, time.Time{}, time.Millisecond)
	}
	for name, test := range map[string]struct {
		put  func(o observer, e *inbox.Event) (string, error)
		want []string
	}{
		"not delivered yet": {
			func(observer, *inbox.Event) (string, error) { return "", nil },
			[]string{control.Accepted},
		},
		"delivered before": {
			func(o observer, e *inbox.Event) (string, error) {
				attempt(o, e, 1, inbox.Deliver)
				return "", nil
			},
			[]string{control.Accepted, control.Delivered},
		},
		"tried twice before": {
			func(o observer, e *inbox.Event) (string, error) {
				attempt(o, e, 1, inbox.Retry)
				attempt(o, e, 2, inbox.Deliver)
				return "", nil
			},
			[]string{control.Accepted, control.Retried, control.Delivered},
		},
		"a repeat": {
			func(_ observer, e *inbox.Event) (string, error) { return e.ID, nil },
			[]string{},
		},
		"a repeat of an event that is delivered just then": {
			func(o observer, e *inbox.Event) (string, error) {
				first := *e
				first.ReceivedAt = e.ReceivedAt.Add(-time.Second)
				attempt(o, &first, 1, inbox.Deliver)
				return e.ID, nil
			},
			[]string{control.Delivered},
		},
		"a repeat in the same microsecond": {
			func(o observer, e *inbox.Event) (string, error) {
				repeat := *e
				stored := &Gateway{inbox: quickInbox{put: func(e *inbox.Event) (string, error) { return e.ID, nil }}}
				_, err := o.journal.put(t.Context(), stored, &repeat, netip.Addr{})
				return "", err
			},
			[]string{control.Accepted},
		},
		"not stored": {
			func(observer, *inbox.Event) (string, error) { return "", errors.New("no room") },
			[]string{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, test.want, told(t, test.put))
		})
	}
}

// While one goroutine publishes that a callback was accepted, the other waits for it.
func TestAcceptedIsToldFirstByEither(t *testing.T) {
	e := &inbox.Event{ID: inbox.NewID("task", nil), TaskID: "task", Type: "avatar", ReceivedAt: time.Now()}
	var a arrivals
	arrived := a.begin(e, netip.Addr{})
	begun := make(chan struct{})
	var published atomic.Bool
	var request sync.WaitGroup
	request.Go(func() {
		a.end(arrived, e, func(control.Notice) {
			close(begun)
			for range 1000 {
				runtime.Gosched()
			}
			published.Store(true)
		})
	})
	<-begun
	a.accepted(e, func(control.Notice) { t.Error("published twice") })
	assert.True(t, published.Load())
	request.Wait()
}

package sqlite

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// traces returns the number of rows in the table.
func traces(t *testing.T, s *store) (n int64) {
	t.Helper()
	require.NoError(t, s.read(context.Background(), func(c *conn) (err error) {
		n, err = c.number(`SELECT count(*) FROM traces`)
		return err
	}))
	return n
}

// Events without a trace have no row, and a trace is removed with its event.
func TestTracesGoWithTheirEvents(t *testing.T) {
	ctx := context.Background()
	s := openTest(t)
	load(t, s, 3, 1)
	require.Zero(t, traces(t, s))
	deliver(t, s, 3)
	events := newEvents(5)
	for _, e := range events {
		e.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		inboxtest.Put(t, s, e)
	}
	require.EqualValues(t, 5, traces(t, s))
	require.NoError(t, s.Purge(ctx, events[4].ID, ""))
	require.EqualValues(t, 4, traces(t, s))
	deliver(t, s, 3)
	require.EqualValues(t, 4, traces(t, s))
	s.SetPolicy(inbox.Policy{Keep: time.Microsecond})
	inboxtest.Eventually(t, func() bool { return traces(t, s) == 1 })
	r, err := s.Get(ctx, events[3].ID)
	require.NoError(t, err)
	require.Equal(t, events[3], r.Event)
}

// Traces count towards the size limit.
func TestTracesTakeRoom(t *testing.T) {
	s := openTest(t, func(o *options) { o.maxSize = 1 << 20 })
	e := newEvent()
	e.TraceState = string(make([]byte, 1<<20))
	_, err := s.Put(context.Background(), e)
	require.ErrorIs(t, err, inbox.ErrFull)
	require.Zero(t, traces(t, s))
}

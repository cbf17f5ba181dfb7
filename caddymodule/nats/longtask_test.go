package nats

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// readAgain counts the events that the inbox reads.
func readAgain(t testing.TB, url string, s *store) func() int64 {
	t.Helper()
	conn, err := nats.Connect(url)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	var n atomic.Int64
	_, err = conn.Subscribe(s.replies.inbox+".*", func(m *nats.Msg) {
		if m.Header.Get("Nats-Stream") == s.subjects.stream {
			n.Add(1)
		}
	})
	require.NoError(t, err)
	require.NoError(t, conn.Flush())
	return n.Load
}

// A task may have hundreds of notices. A new one, or a look at one, must not
// read all others, or each would be slower than the one before.
func TestALongTaskIsNotReadForEachOfItsEvents(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url)
	reads := readAgain(t, url, s)
	const length = 60
	var events []*inbox.Event
	for range length {
		e := inboxtest.NewEvent("task", inbox.InProgress)
		inboxtest.Put(t, s, e)
		events = append(events, e)
	}
	require.LessOrEqual(t, reads(), int64(length), "a Put asks for the last event only")

	l := inboxtest.Lease(t, s.home, 1)
	require.Equal(t, events[0], l[0].Event)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := s.home.Lease(ctx, length)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, reads(), int64(15*length), "of those that wait the first is looked at")

	for i, e := range events[1:] {
		inboxtest.Settle(t, s.home, inbox.Deliver, l...)
		l = inboxtest.Lease(t, s.home, 1)
		require.Equal(t, e, l[0].Event, "event %d", i+1)
	}
	require.Less(t, reads(), int64(6*length*length))

	// A final event goes before waiting in-progress ones.
	more := inboxtest.NewEvent("task", inbox.InProgress)
	inboxtest.Put(t, s, more)
	inboxtest.Settle(t, s.home, inbox.Deliver, l...)
	l = inboxtest.Lease(t, s.home, 1)
	require.Equal(t, more, l[0].Event)
	for range length {
		inboxtest.Put(t, s, inboxtest.NewEvent("task", inbox.InProgress))
	}
	final := inboxtest.NewEvent("task", inbox.Completed)
	inboxtest.Put(t, s, final)
	inboxtest.Settle(t, s.home, inbox.Deliver, l...)
	require.Equal(t, final, inboxtest.Lease(t, s.home, 1)[0].Event)
	stats, err := s.Stats(context.Background())
	require.NoError(t, err)
	require.EqualValues(t, length, stats.Events[inbox.Superseded])
	late := inboxtest.NewEvent("task", inbox.InProgress)
	inboxtest.Put(t, s, late)
	r, err := s.Get(context.Background(), late.ID)
	require.NoError(t, err)
	require.Equal(t, inbox.Superseded, r.State, fmt.Sprint("it came after ", final.ID))
}

package nats

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

func find(t testing.TB, s *store, prefix string) inbox.Found {
	t.Helper()
	p, err := inbox.ParsePrefix(prefix)
	require.NoError(t, err)
	f, err := s.Find(context.Background(), p, 10)
	require.NoError(t, err)
	return f
}

// A search without time finds what it need not search for: what is dead, and what it has
// the task's key of.
func TestASearchEndsInTime(t *testing.T) {
	s := openWith(t, serve(t).ClientURL(), passive, func(o *options) { o.limits.find = 1 })
	events := deliver(t, s, 3)
	dead := inboxtest.NewEvent("dead", inbox.Completed)
	inboxtest.Put(t, s, dead)
	inboxtest.Settle(t, s.home, inbox.GiveUp, inboxtest.Lease(t, s.home, 1)...)

	before := time.Now()
	f := find(t, s, events[0].ID[:15])
	require.Empty(t, f.Records)
	require.WithinRange(t, f.Since, before, time.Now(), "nothing was searched")

	f = find(t, s, events[0].ID[:16])
	require.Len(t, f.Records, 1)
	require.Equal(t, events[0], f.Records[0].Event)
	require.Zero(t, f.Since)

	f = find(t, s, dead.ID[:8])
	require.Len(t, f.Records, 1)
	require.Equal(t, dead, f.Records[0].Event)
	require.NotZero(t, f.Since, "there may be others with these digits")

	f = find(t, s, inbox.ShortID(dead.ID))
	require.Len(t, f.Records, 1)
	require.Zero(t, f.Since)
}

// A search goes back in steps, over gaps too, until all is searched or something is
// found that can be no other. It leaves no consumers behind.
func TestASearchGoesBackInSteps(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url, passive, func(o *options) { o.limits.scan = 1; o.limits.find = time.Minute })
	events := deliver(t, s, 200)
	oldest, newest := sequences(t, s, events)
	for _, e := range events {
		if e != oldest && e != newest {
			require.NoError(t, s.Purge(context.Background(), e.ID, ""))
		}
	}
	for _, prefix := range []string{oldest.ID[:4], oldest.ID[:15], inbox.ShortID(oldest.ID)} {
		f := find(t, s, prefix)
		require.Len(t, f.Records, 1)
		require.Equal(t, oldest, f.Records[0].Event)
		require.Zero(t, f.Since)
	}
	f := find(t, s, inbox.ShortID(newest.ID))
	require.Len(t, f.Records, 1)
	require.Equal(t, newest, f.Records[0].Event)
	require.Zero(t, f.Since)

	there := stream(t, url, s.subjects.stream)
	names := there.ConsumerNames(context.Background())
	var left []string
	for name := range names.Name() {
		left = append(left, name)
	}
	require.NoError(t, names.Err())
	require.Equal(t, []string{consumerName}, left)
}

// sequences returns the events that were stored first and last.
func sequences(t testing.TB, s *store, events []*inbox.Event) (oldest, newest *inbox.Event) {
	t.Helper()
	records, _, err := s.List(context.Background(), inbox.Filter{}, inbox.Page{Limit: len(events)})
	require.NoError(t, err)
	require.Len(t, records, len(events))
	byID := map[string]*inbox.Event{}
	for _, e := range events {
		byID[e.ID] = e
	}
	return byID[records[len(records)-1].Event.ID], byID[records[0].Event.ID]
}

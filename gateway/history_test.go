package gateway

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// sum adds up what a column has.
func sum(column []int64) (n int64) {
	for _, one := range column {
		n += one
	}
	return n
}

func TestHistoryCountsCallbacksAndDeliveries(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		c.load("a", to("app"), to("down"), to("idle", "none"))
		c.answers("down", refuse)
		for _, o := range Outcomes {
			c.ref.journal.Answered(o, 8*time.Millisecond)
		}
		c.put("1", "avatar")
		pass(2 * time.Second)

		h := c.operator().History("hour")
		assert.Equal(t, "hour", h.Span)
		assert.EqualValues(t, 60, h.Step)
		for name, want := range map[string]struct {
			column []int64
			n      int64
		}{
			"accepted": {h.Callbacks.Accepted, 1}, "duplicates": {h.Callbacks.Duplicates, 1},
			"refused": {h.Callbacks.Refused, 1}, "invalid": {h.Callbacks.Invalid, 4}, "unavailable": {h.Callbacks.Unavailable, 1},
		} {
			assert.Len(t, want.column, 60)
			assert.Equal(t, want.n, sum(want.column), name)
		}
		require.NotNil(t, h.Callbacks.Answer.All)
		assert.InEpsilon(t, 8, h.Callbacks.Answer.All.P99, 0.125)
		require.Len(t, h.Destinations, 3)
		app, down, idle := h.Destinations[0], h.Destinations[1], h.Destinations[2]
		assert.Equal(t, "app", app.Destination)
		assert.EqualValues(t, 1, sum(app.Delivered))
		assert.Zero(t, sum(app.Retried)+sum(app.Dead))
		assert.NotNil(t, app.Age.All)
		assert.Equal(t, "down", down.Destination)
		assert.Zero(t, sum(down.Delivered)+sum(down.Dead))
		assert.Nil(t, down.Age.All)
		assert.Equal(t, "idle", idle.Destination)
		assert.Zero(t, sum(idle.Delivered))
		for name, n := range map[string]int{"day": 96, "week": 84} {
			assert.Len(t, c.operator().History(name).Callbacks.Accepted, n)
		}
	})
}

// What was counted outlives reloads, also of a destination that is removed.
func TestHistoryOutlivesReloads(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		c.load("a", to("app"), to("old"), to("unused", "none"))
		c.put("1", "avatar")
		pass(time.Second)
		c.load("b", to("app"))
		c.put("2", "avatar")
		pass(time.Second)
		h := c.operator().History("day")
		require.Len(t, h.Destinations, 2)
		assert.EqualValues(t, 2, sum(h.Destinations[0].Delivered))
		assert.Equal(t, "old", h.Destinations[1].Destination)
		assert.EqualValues(t, 1, sum(h.Destinations[1].Delivered))
		pass(25 * time.Hour)
		assert.Len(t, c.operator().History("day").Destinations, 1, "there is nothing of it any more")
	})
}

// stored adds events to the inbox that were accepted before the start, the newest first.
func (c *crossing) stored(n int, each time.Duration, deliveries ...inbox.Delivery) {
	for i := range n {
		r := &inbox.Record{Event: &inbox.Event{
			ID: fmt.Sprint("old-", i), ReceivedAt: c.ref.journal.past.began.Add(-time.Duration(i+1) * each),
		}}
		for _, d := range deliveries {
			if d.State != inbox.Pending {
				d.SettledAt = r.Event.ReceivedAt.Add(time.Second)
			}
			r.Deliveries = append(r.Deliveries, d)
		}
		c.depot.change(func() { c.depot.records = append(c.depot.records, r) })
	}
}

func delivery(name string, s inbox.State) inbox.Delivery {
	return inbox.Delivery{Destination: name, Progress: inbox.Progress{State: s}}
}

// After a start the history has what the inbox knows.
func TestHistoryOfTheTimeBeforeTheStartIsReadFromTheInbox(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		c.load("a", to("app"))
		c.put("new", "avatar")
		c.stored(3*rememberPage-1, 10*time.Second, delivery("app", inbox.Delivered), delivery("gone", inbox.Dead),
			delivery("slow", inbox.Pending), delivery("late", inbox.Superseded))
		c.depot.change(func() { c.depot.listErr = errors.New("the inbox does not answer") })
		p := c.ref.journal.past
		assert.False(t, c.operator().History("day").Complete)
		begun := time.Now()
		p.remember(t.Context(), c.t.Name())
		assert.Equal(t, rememberAgain, time.Since(begun), "it was tried again, with a pause")

		h := c.operator().History("day")
		assert.True(t, h.Complete)
		assert.Nil(t, h.KnownFrom)
		assert.EqualValues(t, 599, sum(h.Callbacks.Accepted), "the new one is counted by its handler")
		assert.EqualValues(t, 90, h.Callbacks.Accepted[len(h.Callbacks.Accepted)-2], "in a quarter of an hour")
		require.Len(t, h.Destinations, 2)
		assert.EqualValues(t, 600, sum(h.Destinations[0].Delivered), "with the new one")
		assert.InEpsilon(t, 1000, h.Destinations[0].Age.All.P95, 0.125)
		assert.Equal(t, "gone", h.Destinations[1].Destination)
		assert.EqualValues(t, 599, sum(h.Destinations[1].Dead))
		assert.Nil(t, h.Destinations[1].Age.All)
		assert.EqualValues(t, 59*6, sum(c.operator().History("hour").Callbacks.Accepted), "in the 59 minutes before this one")
	})
}

// No more is read than has a bound, and the history says how far back it is known.
func TestHistoryIsReadToABound(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		c.load("a", to("app"))
		c.stored(rememberMost+1, 10*time.Second)
		c.ref.journal.past.remember(t.Context(), c.t.Name())
		assert.Equal(t, rememberMost/rememberPage, c.depot.lists)
		h := c.operator().History("week")
		assert.True(t, h.Complete)
		require.NotNil(t, h.KnownFrom)
		assert.Equal(t, c.ref.journal.past.began.Add(-rememberMost*10*time.Second).UTC(), *h.KnownFrom)
		assert.Nil(t, c.operator().History("day").KnownFrom, "it is known farther back than a day")
	})
}

// Reading ends with the handler, and when it gets another inbox.
func TestHistoryIsReadAsLongAsTheInboxIsTheSame(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		c.load("a", to("app"))
		c.stored(3*rememberPage, time.Second)
		p, key := c.ref.journal.past, "another"
		_, _, err := p.page(t.Context(), c.t.Name(), &key, inbox.Filter{}, "")
		require.ErrorIs(t, err, errOtherInbox)
		key = ""
		_, _, err = p.page(t.Context(), "none", &key, inbox.Filter{}, "")
		require.ErrorIs(t, err, errClosed)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		p.remember(ctx, c.t.Name())
		assert.Zero(t, p.over("week", nil).Callbacks.Accepted[83])
		assert.True(t, p.over("week", nil).Complete)
	})
}

func TestHistoriesOfDestinationsAreBounded(t *testing.T) {
	now := recentEpoch
	p := newPast(func() time.Time { return now })
	for i := range 3 * maxHistories {
		now = now.Add(time.Second)
		p.attempted(fmt.Sprint("d", i), inbox.Deliver, time.Second)
		p.attempted("busy", inbox.Retry, 0)
	}
	assert.Len(t, p.destinations, maxHistories)
	assert.Contains(t, p.destinations, "busy")
	assert.Contains(t, p.destinations, fmt.Sprint("d", 3*maxHistories-1))
	assert.NotContains(t, p.destinations, "d0")
	assert.Equal(t, control.HistorySpans[0], p.over("nonsense", nil).Span)
}

// What the history of the charts costs a callback, beside the counts of the last hour.
func BenchmarkAnswered(b *testing.B) {
	recent, past := newRecent(time.Now), newPast(time.Now)
	for name, count := range map[string]func(){
		"with the history": func() { recent.add(Accepted); past.answered(Accepted, 3*time.Millisecond) },
		"without":          func() { recent.add(Accepted) },
		"attempt, history": func() { past.attempted("default", inbox.Deliver, 3*time.Millisecond) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				count()
			}
		})
		b.Run(name+", at once", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					count()
				}
			})
		})
	}
}

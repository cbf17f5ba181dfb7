package inboxtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

var lookUpTests = []test{
	{"what is not there is not found", func(s *suite) {
		for _, id := range []string{"", "x", strings.Repeat("0", inbox.IDLength), s.event("task", inbox.Completed).ID} {
			_, err := s.in.Get(s.ctx(), id)
			require.ErrorIs(s, err, inbox.ErrNotFound, id)
			require.ErrorIs(s, s.in.Replay(s.ctx(), id, ""), inbox.ErrNotFound, id)
			require.ErrorIs(s, s.in.Purge(s.ctx(), id, ""), inbox.ErrNotFound, id)
		}
	}},
	{"an empty inbox lists nothing", func(s *suite) {
		require.Empty(s, s.list(inbox.Filter{}, 10))
	}},
	{"lists the newest first, page by page", func(s *suite) {
		var events []*inbox.Event
		for i := range 23 {
			events = append(events, s.put(fmt.Sprint("task ", i), inbox.Completed))
		}
		for _, limit := range []int{1, 5, 22, 23, 1000} {
			records := s.list(inbox.Filter{}, limit)
			require.Equal(s, idsOf(events...), recordIDs(records))
		}
		require.Equal(s, events[0], s.list(inbox.Filter{}, 5)[22].Event)
	}},
	{"a page has at most 100 rows unless told", func(s *suite) {
		for i := range 101 {
			s.put(fmt.Sprint("task ", i), inbox.Completed)
		}
		records, next, err := s.in.List(s.ctx(), inbox.Filter{}, inbox.Page{})
		require.NoError(s, err)
		require.LessOrEqual(s, len(records), 100)
		require.NotEmpty(s, next)
	}},
	{"a page that cannot be is an error", func(s *suite) {
		for _, p := range []inbox.Page{{Limit: -1}, {Limit: 1001}, {Cursor: "x"}, {Cursor: "-1"}, {Cursor: " 1"}, {Cursor: "99999999999999999999"}} {
			_, _, err := s.in.List(s.ctx(), inbox.Filter{}, p)
			require.Error(s, err, p)
			require.Equal(s, p.Cursor != "", errors.Is(err, inbox.ErrCursor), p)
			_, _, err = s.in.Suspects(s.ctx(), p)
			require.Error(s, err, p)
			require.Equal(s, p.Cursor != "", errors.Is(err, inbox.ErrCursor), p)
		}
	}},
	{"what is put meanwhile does not shift the pages", func(s *suite) {
		a, b := s.put("a", inbox.Completed), s.put("b", inbox.Completed)
		records, next, err := s.in.List(s.ctx(), inbox.Filter{}, inbox.Page{Limit: 1})
		require.NoError(s, err)
		require.Equal(s, idsOf(b), recordIDs(records))
		s.put("c", inbox.Completed)
		records, _, err = s.in.List(s.ctx(), inbox.Filter{}, inbox.Page{Limit: 1, Cursor: next})
		require.NoError(s, err)
		require.Equal(s, idsOf(a), recordIDs(records))
	}},
	{"filters by task, type, state and time", func(s *suite) {
		e := make([]*inbox.Event, 6)
		for i := range e {
			e[i] = s.event(fmt.Sprint("task ", i/2), inbox.Completed)
			e[i].Type = []string{"avatar", "videoEnhancer"}[i%2]
			s.putEvent(e[i])
		}
		leases := s.lease(3) // 0, 2 and 4: the others wait for them
		s.settle(inbox.Deliver, leases[0])
		s.settle(inbox.GiveUp, leases[1])
		for _, c := range []struct {
			name   string
			filter inbox.Filter
			want   []string
		}{
			{"task", inbox.Filter{TaskID: "task 1"}, idsOf(e[2], e[3])},
			{"unknown task", inbox.Filter{TaskID: "task"}, []string{}},
			{"type", inbox.Filter{Type: "avatar"}, idsOf(e[0], e[2], e[4])},
			{"task and type", inbox.Filter{TaskID: "task 2", Type: "videoEnhancer"}, idsOf(e[5])},
			{"pending", inbox.Filter{States: []inbox.State{inbox.Pending}}, idsOf(e[1], e[3], e[4], e[5])},
			{"delivered", inbox.Filter{States: []inbox.State{inbox.Delivered}}, idsOf(e[0])},
			{"superseded", inbox.Filter{States: []inbox.State{inbox.Superseded}}, []string{}},
			{"dead", inbox.Filter{States: []inbox.State{inbox.Dead}}, idsOf(e[2])},
			{"dead of another type", inbox.Filter{States: []inbox.State{inbox.Dead}, Type: "videoEnhancer"}, []string{}},
			{"two states", inbox.Filter{States: []inbox.State{inbox.Dead, inbox.Delivered}}, idsOf(e[0], e[2])},
			{"task and state", inbox.Filter{TaskID: "task 1", States: []inbox.State{inbox.Pending}}, idsOf(e[3])},
			{"since", inbox.Filter{Since: e[4].ReceivedAt}, idsOf(e[4], e[5])},
			{"until", inbox.Filter{Until: e[1].ReceivedAt}, idsOf(e[0])},
			{"since and until", inbox.Filter{Since: e[1].ReceivedAt.Add(time.Nanosecond), Until: e[3].ReceivedAt}, idsOf(e[2])},
		} {
			oldest := slices.Clone(c.want)
			slices.Reverse(oldest)
			for _, limit := range []int{1, 2, 3, 4, 5, 6, 7, 100} {
				require.Equal(s, c.want, recordIDs(s.list(c.filter, limit)), "%s, %d a page", c.name, limit)
				require.Equal(s, oldest, recordIDs(s.listOldest(c.filter, limit)), "%s, oldest first, %d a page", c.name, limit)
			}
		}
	}},
	{"the summary counts", func(s *suite) {
		stats := s.stats()
		require.Zero(s, stats.Events)
		require.Zero(s, stats.OldestPending)
		require.Zero(s, stats.Quarantined)
		a, b := s.put("a", inbox.Completed), s.put("b", inbox.InProgress)
		c := s.put("b", inbox.Completed)
		stats = s.stats()
		require.Equal(s, [...]int64{2, 0, 1, 0, 0}, stats.Events)
		require.Equal(s, a.ReceivedAt, stats.OldestPending)
		leases := s.lease(2)
		require.Equal(s, a.ReceivedAt, s.stats().OldestPending)
		s.settle(inbox.Deliver, leases[0])
		require.Equal(s, c.ReceivedAt, s.stats().OldestPending)
		s.settle(inbox.GiveUp, leases[1])
		stats = s.stats()
		require.Equal(s, [...]int64{0, 1, 1, 1, 0}, stats.Events)
		require.Zero(s, stats.OldestPending)
		require.NoError(s, s.in.Quarantine(s.ctx(), &inbox.Suspect{Status: 400}))
		require.EqualValues(s, 1, s.stats().Quarantined)
		require.NoError(s, s.in.Replay(s.ctx(), b.ID, "")) // it is superseded again
		require.NoError(s, s.in.Replay(s.ctx(), a.ID, ""))
		require.Equal(s, a.ReceivedAt, s.stats().OldestPending)
		before := s.stats()
		s.reopen()
		after := s.stats()
		require.Equal(s, before.Events, after.Events)
		require.Equal(s, before.OldestPending, after.OldestPending)
		require.Equal(s, before.Quarantined, after.Quarantined)
	}},
	{"the oldest pending may be a retry", func(s *suite) {
		a := s.put("a", inbox.Completed)
		s.settle(inbox.Retry, s.leaseOf(a))
		s.put("b", inbox.Completed)
		require.Equal(s, a.ReceivedAt, s.stats().OldestPending)
	}},
}

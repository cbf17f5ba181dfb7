package inboxtest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// finder returns the inbox as one that finds events by the beginning of their ids.
func (s *suite) finder() inbox.Finder {
	s.Helper()
	in := s.in
	if e, ok := in.(elsewhere); ok {
		in = e.Inbox
	}
	f, ok := in.(inbox.Finder)
	require.True(s, ok, "the inbox finds events by the beginning of their ids")
	return f
}

// find finds events once all have been looked at.
func (s *suite) find(prefix string, limit int) (records []*inbox.Record, more bool) {
	s.Helper()
	p, err := inbox.ParsePrefix(prefix)
	require.NoError(s, err, prefix)
	var f inbox.Found
	s.eventually("a search of all events", func() bool {
		f, err = s.finder().Find(s.ctx(), p, limit)
		require.NoError(s, err, prefix)
		return f.Since.IsZero()
	})
	return f.Records, f.More
}

// alike returns n tasks whose keys begin with the same four digits.
func alike(n int) (tasks []string) {
	want := inbox.TaskKey("task 0") >> 48
	for i := 0; len(tasks) < n; i++ {
		if task := fmt.Sprint("task ", i); inbox.TaskKey(task)>>48 == want {
			tasks = append(tasks, task)
		}
	}
	return tasks
}

var findTests = []test{
	{"finds events by the beginning of their ids", func(s *suite) {
		var events []*inbox.Event
		for _, task := range append(alike(3), "another", "and another") {
			events = append(events, s.put(task, inbox.InProgress), s.put(task, inbox.InProgress), s.put(task, inbox.Completed))
		}
		s.settle(inbox.GiveUp, s.lease(1)...)
		for range 2 {
			for _, e := range events {
				prefixes := []string{inbox.ShortID(e.ID), inbox.ShortIDOf(e.ID, 1), e.ID[:4] + "-" + e.ID[16:20]}
				for _, n := range []int{4, 5, 8, 12, 15, 16, 17, 20, 47, 48} {
					prefixes = append(prefixes, e.ID[:n])
				}
				for _, prefix := range prefixes {
					p, err := inbox.ParsePrefix(prefix)
					require.NoError(s, err)
					want := slices.DeleteFunc(idsOf(events...), func(id string) bool { return !p.Matches(id) })
					require.Contains(s, want, e.ID)
					records, more := s.find(prefix, 100)
					require.Equal(s, want, recordIDs(records), prefix)
					require.False(s, more)
				}
			}
			s.reopen()
		}
	}},
	{"what is found is as in a list", func(s *suite) {
		a := s.put("task", inbox.Completed)
		s.settle(inbox.Retry, s.leaseOf(a))
		records, _ := s.find(inbox.ShortID(a.ID), 1)
		require.Equal(s, s.list(inbox.Filter{}, 1), records)
		require.Equal(s, 1, records[0].Attempts)
		require.Nil(s, records[0].Deliveries[0].Log)
	}},
	{"finds no more than the limit, the newest", func(s *suite) {
		var events []*inbox.Event
		for _, task := range alike(5) {
			events = append(events, s.put(task, inbox.Completed))
		}
		prefix := events[0].ID[:4]
		for limit := 1; limit <= 5; limit++ {
			records, more := s.find(prefix, limit)
			require.Equal(s, idsOf(events[5-limit:]...), recordIDs(records))
			require.Equal(s, limit < 5, more)
		}
		for i := range 5 {
			events = append(events, s.put("task 0", inbox.InProgress))
			records, more := s.find(prefix, 3)
			require.Equal(s, idsOf(events[i+3:i+6]...), recordIDs(records))
			require.True(s, more)
			records, more = s.find(events[0].ID[:16], i+1)
			require.Equal(s, idsOf(events[5:]...), recordIDs(records))
			require.True(s, more)
		}
	}},
	{"what is not there is not found by its beginning", func(s *suite) {
		for _, prefix := range []string{"0000", strings.Repeat("0", inbox.IDLength)} {
			records, more := s.find(prefix, 10)
			require.Empty(s, records)
			require.False(s, more)
		}
		e, gone := s.put("task", inbox.Completed), s.put("another", inbox.Completed)
		for _, l := range s.lease(2) {
			s.settle(inbox.GiveUp, l)
		}
		require.NoError(s, s.in.Purge(s.ctx(), gone.ID, ""))
		for _, n := range []int{4, 12, 16, 48} {
			records, _ := s.find(gone.ID[:n], 10)
			require.Empty(s, records)
			records, _ = s.find(e.ID[:n], 10)
			require.Equal(s, idsOf(e), recordIDs(records))
		}
	}},
}

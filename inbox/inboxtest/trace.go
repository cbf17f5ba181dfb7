package inboxtest

import (
	"fmt"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// trace sets a unique trace: every second event has a parent, every fourth a
// state as well.
func trace(e *inbox.Event, n int) {
	if n%2 == 0 {
		e.TraceParent = fmt.Sprintf("00-%032x-%016x-01", n, n)
	}
	if n%4 == 0 {
		e.TraceState = fmt.Sprintf("rojo=%x,congo=t61rcWkgMzE", n)
	}
}

var traceTests = []test{
	{"a trace goes with its event", func(s *suite) {
		const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		var events []*inbox.Event
		for i, t := range [][2]string{
			{},
			{parent, ""},
			{parent, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"},
			{parent, strings.Repeat("k=v,", 1000) + "k=v"},
			{"", "rojo=1"},
			{},
		} {
			e := s.event(fmt.Sprint("task ", i), inbox.Completed)
			e.TraceParent, e.TraceState = t[0], t[1]
			e.Body = []byte(strings.Repeat("x", 1+i*3000))
			s.putEvent(e)
			events = append(events, e)
		}
		check := func() {
			s.Helper()
			var oldest []*inbox.Event
			for _, e := range events {
				s.get(e)
			}
			for _, r := range s.listOldest(inbox.Filter{}, 10) {
				oldest = append(oldest, r.Event)
			}
			require.Equal(s, events, oldest)
			newest := s.list(inbox.Filter{}, 10)
			require.Len(s, newest, len(events))
			for i, r := range newest {
				require.Equal(s, events[len(events)-1-i], r.Event)
			}
			require.Equal(s, events[2], s.list(inbox.Filter{TaskID: "task 2"}, 10)[0].Event)
		}
		check()
		s.reopen()
		check()
		s.crash()
		check()
		for i, l := range s.lease(len(events)) {
			require.Equal(s, events[i], l.Event)
		}
		s.crash()
		leases := s.lease(len(events))
		s.settle(inbox.Retry, leases...)
		again := s.lease(len(events))
		for _, l := range again {
			require.Contains(s, events, l.Event)
		}
		s.settle(inbox.GiveUp, again...)
		check()
		require.Equal(s, events[2], s.listOldest(inbox.Filter{States: []inbox.State{inbox.Dead}}, 10)[2].Event)
	}},
	{"a duplicate leaves the trace of the first", func(s *suite) {
		e := s.event("task", inbox.Completed)
		e.TraceParent, e.TraceState = "00-1", "a=1"
		s.putEvent(e)
		repeat := *e
		repeat.TraceParent, repeat.TraceState = "00-2", ""
		duplicateOf, err := s.in.Put(s.ctx(), &repeat)
		require.NoError(s, err)
		require.Equal(s, repeat.ID, duplicateOf)
		require.Equal(s, e, s.leaseOf(e).Event)
	}},
	{"an event that is put again after a purge has the trace of the second", func(s *suite) {
		e := s.event("task", inbox.Completed)
		e.TraceParent, e.TraceState = "00-1", "a=1"
		s.putEvent(e)
		require.NoError(s, s.in.Purge(s.ctx(), e.ID, ""))
		e.TraceParent, e.TraceState = "", ""
		s.putEvent(e)
		s.leaseOf(e)
	}},
}

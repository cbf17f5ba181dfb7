package inboxtest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// What is looked up, counted and kept of destinations.
var destinationLookUpTests = []test{
	{"a skipped event goes when it is old", func(s *suite) {
		e := s.send("task", inbox.Completed)
		s.in.SetPolicy(inbox.Policy{Keep: time.Microsecond})
		s.eventually("it is removed", func() bool { return s.stats().Events == [5]int64{} })
		_, err := s.in.Get(s.ctx(), e.ID)
		require.ErrorIs(s, err, inbox.ErrNotFound)
	}},
	{"an event stays until it was kept after its last end", func(s *suite) {
		e := s.send("task", inbox.Completed, "a", "b")
		done := s.send("other", inbox.Completed, "a", "b")
		dead := s.send("third", inbox.Completed, "b", "c")
		Settle(s, s.queueOf("a"), inbox.Deliver, Lease(s, s.queueOf("a"), 2)...)
		for _, l := range Lease(s, s.queueOf("b"), 3) {
			switch l.Event.ID {
			case done.ID:
				Settle(s, s.queueOf("b"), inbox.Deliver, l)
			case dead.ID:
				Settle(s, s.queueOf("b"), inbox.GiveUp, l)
			}
		}
		s.finish(inbox.Deliver, "c", dead)
		s.in.SetPolicy(inbox.Policy{Keep: time.Microsecond})
		s.eventually("the delivered one is removed", func() bool { return s.stats().Events == [5]int64{1, 0, 0, 1, 0} })
		require.Equal(s, idsOf(e, dead), recordIDs(s.list(inbox.Filter{}, 10)))
		require.Equal(s, [5]int64{0, 1, 0, 0, 0}, s.destinationStats("a").Deliveries)
		require.Equal(s, [5]int64{1, 0, 0, 1, 0}, s.destinationStats("b").Deliveries)
	}},
	{"what is found by its beginning has its deliveries", func(s *suite) {
		e, skipped := s.send("1", inbox.Completed, "a", "b"), s.send("2", inbox.Completed)
		s.finish(inbox.GiveUp, "b", e)
		for _, want := range []*inbox.Event{e, skipped} {
			for _, prefix := range []string{want.ID[:12], want.ID[:16], inbox.ShortID(want.ID)} {
				records, _ := s.find(prefix, 10)
				require.Equal(s, s.list(inbox.Filter{TaskID: want.TaskID}, 10), records)
			}
		}
	}},
	{"lists the events of a destination by their state there", func(s *suite) {
		ofA := s.send("1", inbox.Completed, "a")
		both := s.send("2", inbox.Completed, "a", "b")
		ofB := s.send("3", inbox.Completed, "b")
		usual := s.put("4", inbox.Completed)
		s.send("5", inbox.Completed)
		for _, l := range Lease(s, s.queueOf("b"), 2) {
			v := inbox.Deliver
			if l.Event.ID == both.ID {
				v = inbox.GiveUp
			}
			Settle(s, s.queueOf("b"), v, l)
		}
		list := func(destination string, states ...inbox.State) []string {
			return recordIDs(s.list(inbox.Filter{Destination: destination, States: states}, 10))
		}
		require.Equal(s, idsOf(ofA, both), list("a"))
		require.Equal(s, idsOf(both, ofB), list("b"))
		require.Equal(s, idsOf(usual), list(inbox.DefaultDestination))
		require.Empty(s, list("c"))
		require.Equal(s, idsOf(both), list("b", inbox.Dead))
		require.Equal(s, idsOf(ofB), list("b", inbox.Delivered))
		require.Empty(s, list("b", inbox.Pending))
		require.Equal(s, idsOf(ofA, both), list("a", inbox.Pending))
		require.Empty(s, list("a", inbox.Dead))
		require.Equal(s, idsOf(both, ofB), list("b", inbox.Dead, inbox.Delivered))
		require.Empty(s, list("", inbox.Dead), "it is pending at a")
		require.Equal(s, idsOf(both), recordIDs(s.list(inbox.Filter{Destination: "b", TaskID: "2"}, 10)))
		require.Empty(s, s.list(inbox.Filter{Destination: "b", TaskID: "1"}, 10))
		r := s.list(inbox.Filter{Destination: "b", States: []inbox.State{inbox.Dead}}, 10)[0]
		require.Equal(s, inbox.Dead, r.State)
		require.Equal(s, 1, r.Attempts)
		require.Len(s, r.Deliveries, 2)
		require.Equal(s, r.Deliveries[1].Progress, r.Progress)
		r = s.list(inbox.Filter{TaskID: "2"}, 10)[0]
		require.Equal(s, inbox.Summarize(r.Deliveries), r.Progress)
	}},
	{"lists a destination's events page by page, in both orders", func(s *suite) {
		var events []*inbox.Event
		for i := range 47 {
			e := s.send(fmt.Sprint("task ", i%5), inbox.Completed, [][]string{{"a"}, {"b"}, {"a", "b"}}[i%3]...)
			if i%3 != 0 {
				events = append(events, e)
			}
		}
		for _, limit := range []int{1, 7, 1000} {
			f := inbox.Filter{Destination: "b"}
			require.Equal(s, idsOf(events...), recordIDs(s.list(f, limit)))
			oldest := recordIDs(s.listOldest(f, limit))
			require.Len(s, oldest, len(events))
			for i, e := range events {
				require.Equal(s, e.ID, oldest[i])
			}
		}
	}},
	{"counts the deliveries of each destination", func(s *suite) {
		first := s.send("1", inbox.Completed, "a", "b")
		second := s.send("2", inbox.Completed, "b")
		require.Equal(s, [...]int64{1, 0, 0, 0, 0}, s.destinationStats("a").Deliveries)
		require.Equal(s, first.ReceivedAt, s.destinationStats("b").OldestPending)
		for _, l := range Lease(s, s.queueOf("b"), 2) {
			if l.Event.ID == first.ID {
				Settle(s, s.queueOf("b"), inbox.Deliver, l)
			}
		}
		require.Equal(s, [...]int64{1, 1, 0, 0, 0}, s.destinationStats("b").Deliveries)
		require.Equal(s, second.ReceivedAt, s.destinationStats("b").OldestPending)
		require.Equal(s, first.ReceivedAt, s.destinationStats("a").OldestPending)
		require.Zero(s, s.destinationStats(inbox.DefaultDestination).OldestPending)
		require.Equal(s, [...]int64{2, 0, 0, 0, 0}, s.stats().Events)
		require.Equal(s, first.ReceivedAt, s.stats().OldestPending)
	}},
	{"a destination that is not asked for any more keeps its deliveries", func(s *suite) {
		first := s.send("task", inbox.Completed, "a", "b")
		second := s.send("task", inbox.Completed, "a", "b")
		s.finish(inbox.Deliver, "a", first)
		s.reopen()
		s.finish(inbox.Deliver, "a", second)
		require.Equal(s, [...]int64{2, 0, 0, 0, 0}, s.destinationStats("b").Deliveries)
		require.Equal(s, idsOf(first, second), recordIDs(s.list(inbox.Filter{Destination: "b", States: []inbox.State{inbox.Pending}}, 10)))
		s.reopen()
		s.finish(inbox.Deliver, "b", first)
		s.finish(inbox.Deliver, "b", second)
		s.requireStates(inbox.Delivered, "a: delivered, b: delivered", second)
	}},
	{"a new destination gets what is put from then on", func(s *suite) {
		old := s.send("task", inbox.Completed, "a")
		e := s.send("task", inbox.Completed, "a", "b")
		s.finish(inbox.Deliver, "b", e)
		s.finish(inbox.Deliver, "a", old)
		s.finish(inbox.Deliver, "a", e)
		s.requireStates(inbox.Delivered, "a: delivered", old)
	}},
	{"leases of all queues go back when the inbox is closed", func(s *suite) {
		e := s.send("task", inbox.Completed, "a", "b")
		s.take("a", e)
		s.take("b", e)
		s.reopen()
		s.take("b", e)
		s.take("a", e)
	}},
	{"leases of all queues go back after a crash", func(s *suite) {
		if s.storage.Crash == nil {
			return
		}
		e := s.send("task", inbox.Completed, "a", "b", "c")
		s.take("a", e)
		s.finish(inbox.Deliver, "c", e)
		s.storage.Crash(s.TB, s.in)
		s.open(inbox.Policy{Keep: 24 * time.Hour, Quarantine: 10})
		s.take("b", e)
		s.take("a", e)
		s.nothingAt("c")
		s.requireStates(inbox.Pending, "a: pending, b: pending, c: delivered", e)
	}},
	{"a hold is for one destination, and lasts", func(s *suite) {
		hold := inbox.Hold{Since: holdTime, Reason: "why"}
		require.NoError(s, s.queueOf("a").SetHold(s.ctx(), hold))
		check := func() {
			for _, name := range []string{"b", inbox.DefaultDestination} {
				h, err := s.queueOf(name).Hold(s.ctx())
				require.NoError(s, err)
				require.Zero(s, h, name)
			}
			h, err := s.queueOf("a").Hold(s.ctx())
			require.NoError(s, err)
			require.Equal(s, hold, h)
		}
		check()
		s.send("task", inbox.Completed, "a")
		s.reopen()
		check()
	}},
	{"as many destinations as can be", func(s *suite) {
		var names []string
		for i := range inbox.MaxDestinations {
			names = append(names, fmt.Sprintf("d%02d", i))
		}
		e := s.send("task", inbox.Completed, names...)
		for i, name := range names {
			l := Lease(s, s.queueOf(name), 1)
			require.Equal(s, e, l[0].Event)
			if i%2 == 0 {
				Settle(s, s.queueOf(name), inbox.Deliver, l...)
			}
		}
		r := s.get(e)
		require.Len(s, r.Deliveries, len(names))
		for i, d := range r.Deliveries {
			require.Equal(s, names[i], d.Destination)
			require.Equal(s, i%2 == 0, d.State == inbox.Delivered)
		}
	}},
	{"a closed inbox has no queues", func(s *suite) {
		q := s.queueOf("a")
		require.NoError(s, s.in.Close())
		_, err := q.Lease(s.ctx(), 1)
		require.ErrorIs(s, err, inbox.ErrClosed)
		_, err = s.in.Queue(s.ctx(), "b")
		require.ErrorIs(s, err, inbox.ErrClosed)
	}},
}

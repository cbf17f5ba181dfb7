package inboxtest

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

var putTests = []test{
	{"gives back what was put, byte for byte", func(s *suite) {
		e := s.event("task", inbox.Failed)
		e.Body = []byte("{\"text\":\"\\u0000 é \x7f 🎨\"}\n" + strings.Repeat(" ", 20_000))
		s.putEvent(e)
		require.Equal(s, e, s.get(e).Event)
		l := s.lease(1)[0]
		require.Equal(s, e, l.Event)
		require.Equal(s, 1, l.Attempt)
		require.Equal(s, time.UTC, l.Event.ReceivedAt.Location())
	}},
	{"keeps an empty body", func(s *suite) {
		e := s.event("task", inbox.Completed)
		e.Body = nil
		s.putEvent(e)
		require.Empty(s, s.lease(1)[0].Event.Body)
	}},
	{"reports a duplicate whatever became of the first", func(s *suite) {
		again := func(e *inbox.Event) {
			s.Helper()
			repeat := *e
			repeat.ReceivedAt = e.ReceivedAt.Add(time.Hour)
			duplicateOf, err := s.in.Put(s.ctx(), &repeat)
			require.NoError(s, err)
			require.Equal(s, e.ID, duplicateOf)
		}
		e := s.put("task", inbox.Completed)
		again(e)
		l := s.leaseOf(e)
		again(e)
		s.settle(inbox.Retry, l)
		again(e)
		s.settle(inbox.Deliver, s.leaseOf(e))
		again(e)
		s.requireState(inbox.Delivered, e)
		other := s.put("other", inbox.Completed)
		s.settle(inbox.GiveUp, s.leaseOf(other))
		again(other)
		s.requireState(inbox.Dead, other)
		s.nothingDue()
	}},
	{"stores one of many that are put at once", func(s *suite) {
		const callers = 8
		for range 8 {
			e := s.event("task", inbox.Completed)
			var firsts atomic.Int64
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					duplicateOf, err := s.in.Put(s.ctx(), e)
					if err == nil && duplicateOf == "" {
						firsts.Add(1)
					}
				})
			}
			wg.Wait()
			require.EqualValues(s, 1, firsts.Load())
			s.settle(inbox.Deliver, s.lease(1)[0])
		}
		s.nothingDue()
	}},
	{"tells events of one task apart", func(s *suite) {
		a := s.put("task", inbox.Completed)
		b := s.put("task", inbox.Completed)
		require.NotEqual(s, a.ID, b.ID)
		require.Len(s, s.list(inbox.Filter{TaskID: "task"}, 10), 2)
	}},
	{"refuses an event that could not be found again", func(s *suite) {
		for name, spoil := range map[string]func(e *inbox.Event){
			"no id":                    func(e *inbox.Event) { e.ID = "" },
			"an id that is no id":      func(e *inbox.Event) { e.ID = strings.Repeat("g", inbox.IDLength) },
			"another task's id":        func(e *inbox.Event) { e.ID = inbox.NewID("other", nil) },
			"a former id that is none": func(e *inbox.Event) { e.FormerID = "x" },
			"no task":                  func(e *inbox.Event) { e.TaskID = "" },
			"no type":                  func(e *inbox.Event) { e.Type = "" },
			"a status of no task's":    func(e *inbox.Event) { e.Status = inbox.Unconfirmed + 1 },
		} {
			e := s.event("task", inbox.Completed)
			spoil(e)
			_, err := s.in.Put(s.ctx(), e)
			require.Error(s, err, name)
		}
		s.nothingDue()
	}},
	{"returns the context's error", func(s *suite) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := s.in.Put(ctx, s.event("task", inbox.Completed))
		require.ErrorIs(s, err, context.Canceled)
	}},
	{"remembers across a restart", func(s *suite) {
		e := s.put("task", inbox.Completed)
		s.settle(inbox.Deliver, s.leaseOf(e))
		s.reopen()
		duplicateOf, err := s.in.Put(s.ctx(), e)
		require.NoError(s, err)
		require.Equal(s, e.ID, duplicateOf)
		s.nothingDue()
	}},
	{"finds an event by the id that it had formerly", func(s *suite) {
		s.put("task", inbox.InProgress)
		old := s.put("task", inbox.Completed)
		s.put("task", inbox.Failed)
		s.put("other", inbox.Completed)
		e := s.event("task", inbox.Completed)
		e.FormerID = old.ID
		again := func() {
			s.Helper()
			duplicateOf, err := s.in.Put(s.ctx(), e)
			require.NoError(s, err)
			require.Equal(s, old.ID, duplicateOf)
			_, err = s.in.Get(s.ctx(), e.ID)
			require.ErrorIs(s, err, inbox.ErrNotFound, "it is not stored")
		}
		again()
		s.settle(inbox.Deliver, s.lease(2)...)
		again()
		s.settle(inbox.Deliver, s.lease(1)...)
		s.reopen()
		again()
		s.nothingDue()
	}},
	{"makes a former id only if there are events of the task", func(s *suite) {
		made := 0
		var old *inbox.Event
		e := s.event("task", inbox.Completed)
		e.MakeFormerID = func() string {
			made++
			return old.ID
		}
		want := *e
		want.MakeFormerID = nil
		s.putEvent(e)
		require.Zero(s, made)
		s.leaseOf(&want)

		old = s.put("other", inbox.Failed)
		e = s.event("other", inbox.Failed)
		e.MakeFormerID = func() string {
			made++
			return old.ID
		}
		for again := range 2 {
			duplicateOf, err := s.in.Put(s.ctx(), e)
			require.NoError(s, err)
			require.Equal(s, old.ID, duplicateOf)
			require.Greater(s, made, again)
			s.reopen()
		}
		e.MakeFormerID = func() string { return "x" }
		_, err := s.in.Put(s.ctx(), e)
		require.ErrorContains(s, err, "event id has 1 characters")
		e.MakeFormerID = func() string { return "" }
		s.putEvent(e)
	}},
	{"stores an event whose former id is gone or never was", func(s *suite) {
		old := s.put("task", inbox.Completed)
		s.settle(inbox.Deliver, s.leaseOf(old))
		require.NoError(s, s.in.Purge(s.ctx(), old.ID, ""))
		other := s.put("task", inbox.Completed)
		s.settle(inbox.Deliver, s.leaseOf(other))
		e := s.event("task", inbox.Completed)
		want := *e
		e.FormerID = old.ID
		s.putEvent(e)
		duplicateOf, err := s.in.Put(s.ctx(), e)
		require.NoError(s, err)
		require.Equal(s, e.ID, duplicateOf)
		s.leaseOf(&want) // the former id is not stored
	}},
	{"stores one of many that had different ids", func(s *suite) {
		const callers = 8
		e := s.event("task", inbox.Completed)
		var firsts atomic.Int64
		var wg sync.WaitGroup
		for range callers {
			former := *e
			former.FormerID = s.event("task", inbox.Completed).ID
			wg.Go(func() {
				duplicateOf, err := s.in.Put(s.ctx(), &former)
				switch {
				case err == nil && duplicateOf == "":
					firsts.Add(1)
				case err == nil && duplicateOf != e.ID:
					s.Errorf("it is taken for a duplicate of %s", duplicateOf)
				}
			})
		}
		wg.Wait()
		require.EqualValues(s, 1, firsts.Load())
		s.leaseOf(e)
	}},
}

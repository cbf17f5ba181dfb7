package inboxtest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Tells makes an event tell an outcome, and returns it.
func Tells(e *inbox.Event, origin inbox.Origin, outcome string) *inbox.Event {
	sum := sha256.Sum256([]byte(e.TaskID + "\n" + outcome))
	e.Origin, e.Revision = origin, 1
	copy(e.Outcome[:], sum[:])
	return e
}

// told makes a final event that differs from all others and tells an outcome.
func (s *suite) told(origin inbox.Origin, outcome string) *inbox.Event {
	return Tells(s.event("task", inbox.Completed), origin, outcome)
}

// tell puts an event that is not a duplicate, with a revision.
func (s *suite) tell(origin inbox.Origin, outcome string, revision int) *inbox.Event {
	s.Helper()
	e := s.told(origin, outcome)
	e.Revision = revision
	s.putEvent(e)
	s.get(e)
	return e
}

// repeats checks that an event is a duplicate of another one.
func (s *suite) repeats(e, first *inbox.Event) {
	s.Helper()
	duplicateOf, err := s.in.Put(s.ctx(), e)
	require.NoError(s, err)
	require.Equal(s, first.ID, duplicateOf)
	if e.ID != first.ID {
		_, err = s.in.Get(s.ctx(), e.ID)
		require.ErrorIs(s, err, inbox.ErrNotFound, "it is not stored")
	}
}

// refused checks that an event is refused, because it has to have another revision.
func (s *suite) refused(e *inbox.Event, revision int) {
	s.Helper()
	duplicateOf, err := s.in.Put(s.ctx(), e)
	var wrong *inbox.RevisionError
	require.ErrorAs(s, err, &wrong)
	require.Equal(s, revision, wrong.Revision)
	require.Empty(s, duplicateOf)
	_, err = s.in.Get(s.ctx(), e.ID)
	require.ErrorIs(s, err, inbox.ErrNotFound, "it is not stored")
}

const (
	called = inbox.FromCallback
	asked  = inbox.FromAPI
)

var outcomeTests = []test{
	{"an outcome that was called and asked for is one event", func(s *suite) {
		for i, origins := range [][2]inbox.Origin{{called, asked}, {asked, called}, {asked, asked}} {
			task := fmt.Sprint("task ", i)
			first := Tells(s.event(task, inbox.Completed), origins[0], "done")
			second := Tells(s.event(task, inbox.Completed), origins[1], "done")
			s.putEvent(first)
			s.repeats(second, first)
			s.repeats(first, first)
			s.settle(inbox.Deliver, s.leaseOf(first))
			s.repeats(second, first)
			s.reopen()
			s.repeats(second, first)
			require.Equal(s, first, s.list(inbox.Filter{TaskID: task}, 10)[0].Event)
			require.Len(s, s.list(inbox.Filter{TaskID: task}, 10), 1)
		}
		s.nothingDue()
	}},
	{"two callbacks with the same outcome and different ids are two events", func(s *suite) {
		first := s.tell(called, "done", 1)
		second := s.tell(called, "done", 1)
		s.repeats(s.told(asked, "done"), first)
		require.Equal(s, idsOf(first, second), recordIDs(s.list(inbox.Filter{TaskID: "task"}, 10)))
	}},
	{"another outcome is another revision", func(s *suite) {
		first := s.tell(called, "one", 1)
		wrong := s.told(asked, "two")
		s.refused(wrong, 2)
		wrong.Revision = 3
		s.refused(wrong, 2)
		second := s.tell(asked, "two", 2)
		third := s.tell(called, "three", 3)
		again := s.tell(called, "one", 1) // what a callback tells again is no other outcome
		s.repeats(s.told(called, "two"), second)
		s.repeats(s.told(asked, "one"), first)
		s.repeats(s.told(asked, "three"), third)
		s.refused(s.told(called, "four"), 4)
		s.reopen()
		s.repeats(s.told(called, "two"), second)
		s.refused(s.told(called, "four"), 4)
		for _, e := range []*inbox.Event{first, second, third, again} {
			s.settle(inbox.Deliver, s.leaseOf(e))
		}
		s.repeats(s.told(called, "two"), second)
		s.refused(s.told(called, "four"), 4)
	}},
	{"the first outcome has revision 1", func(s *suite) {
		e := s.told(called, "one")
		e.Revision = 2
		s.refused(e, 1)
		s.put("task", inbox.InProgress)
		s.refused(e, 1)
		s.tell(called, "one", 1)
	}},
	{"events without an outcome are not compared", func(s *suite) {
		plain := s.put("task", inbox.Completed)
		s.put("task", inbox.InProgress)
		e := s.event("task", inbox.Failed)
		e.Origin = asked
		s.putEvent(e)
		s.get(e)
		first := s.tell(called, "one", 1)
		s.put("task", inbox.InProgress)
		other := s.put("task", inbox.Completed)
		s.repeats(s.told(asked, "one"), first)
		s.refused(s.told(asked, "two"), 2)
		s.repeats(plain, plain)
		s.repeats(other, other)
	}},
	{"tasks are not compared with each other", func(s *suite) {
		s.tell(called, "one", 1)
		e := Tells(s.event("other", inbox.Completed), asked, "one")
		e.Outcome = s.told(called, "one").Outcome
		s.putEvent(e)
	}},
	{"an event that was purged is not compared", func(s *suite) {
		first := s.tell(called, "one", 1)
		second := s.tell(asked, "two", 2)
		require.NoError(s, s.in.Purge(s.ctx(), first.ID, ""))
		s.refused(s.told(asked, "one"), 3)
		require.NoError(s, s.in.Purge(s.ctx(), second.ID, ""))
		s.repeats(s.told(called, "two"), s.tell(asked, "two", 1))
		require.NoError(s, s.in.Purge(s.ctx(), s.list(inbox.Filter{TaskID: "task"}, 1)[0].Event.ID, ""))
		s.tell(called, "three", 1)
	}},
	{"an outcome goes with its event", func(s *suite) {
		first := s.tell(asked, "one", 1)
		l := s.leaseOf(first)
		s.settle(inbox.GiveUp, l)
		require.NoError(s, s.in.Replay(s.ctx(), first.ID, ""))
		s.repeats(s.told(called, "one"), first)
		s.crash()
		s.repeats(s.told(called, "one"), first)
		s.settle(inbox.Deliver, s.leaseOf(first))
		require.Equal(s, first, s.listOldest(inbox.Filter{}, 10)[0].Event)
		require.Equal(s, first, s.list(inbox.Filter{TaskID: "task"}, 10)[0].Event)
	}},
	{"outcomes are found behind many events of their task", func(s *suite) {
		for range 70 {
			s.put("task", inbox.InProgress)
		}
		first := s.tell(called, "one", 1)
		for range 70 {
			s.put("task", inbox.InProgress)
		}
		s.repeats(s.told(asked, "one"), first)
		second := s.tell(asked, "two", 2)
		s.put("task", inbox.InProgress)
		s.reopen()
		s.repeats(s.told(called, "two"), second)
		s.refused(s.told(called, "three"), 3)
		require.NoError(s, s.in.Purge(s.ctx(), second.ID, ""))
		s.refused(s.told(called, "three"), 2)
		s.repeats(s.told(asked, "one"), first)
	}},
	{"the last outcomes of a task are compared", func(s *suite) {
		var all []*inbox.Event
		for i := range inbox.MaxOutcomes + 3 {
			all = append(all, s.tell(called, fmt.Sprint("outcome ", i), i+1))
		}
		for _, e := range all[3:] {
			again := s.event("task", inbox.Completed)
			again.Origin, again.Outcome, again.Revision = asked, e.Outcome, 1
			s.repeats(again, e)
		}
		s.refused(s.told(asked, "another"), len(all)+1)
		s.refused(s.told(asked, "outcome 2"), len(all)+1)
	}},
	{"of one outcome that is called and asked for at once, one is stored", func(s *suite) {
		for round := range 20 {
			RaceOfOneOutcome(s, s.in, s.in, fmt.Sprint("task ", round), nil)
		}
	}},
	{"of different outcomes that are told at once, each has its revision", func(s *suite) {
		for round := range 20 {
			RaceOfOutcomes(s, s.in, s.in, fmt.Sprint("task ", round))
		}
	}},
	{"refuses an outcome that could not be compared", func(s *suite) {
		for name, spoil := range map[string]func(e *inbox.Event){
			"of a task in progress":      func(e *inbox.Event) { e.Status = inbox.InProgress },
			"without a revision":         func(e *inbox.Event) { e.Revision = 0 },
			"a revision without outcome": func(e *inbox.Event) { e.Outcome = inbox.OutcomeKey{} },
			"an origin that is none":     func(e *inbox.Event) { e.Origin = 2 },
		} {
			e := s.told(called, "one")
			spoil(e)
			_, err := s.in.Put(s.ctx(), e)
			require.Error(s, err, name)
			var wrong *inbox.RevisionError
			require.NotErrorAs(s, err, &wrong, name)
		}
		s.nothingDue()
	}},
}

// PutRevised puts an event as the gateway does: with the revision that it has to have.
func PutRevised(ctx context.Context, in inbox.Inbox, e *inbox.Event) (duplicateOf string, err error) {
	for {
		duplicateOf, err = in.Put(ctx, e)
		var wrong *inbox.RevisionError
		if !errors.As(err, &wrong) {
			return duplicateOf, err
		}
		e.Revision = wrong.Revision
	}
}

// RaceOfOneOutcome has the outcome of a task called at one inbox and asked for at another
// one with the same storage, several times at the same moment, and checks that one of
// these events was stored, and that the others are duplicates of it. before, if any, are
// put first.
func RaceOfOneOutcome(t testing.TB, one, other inbox.Inbox, task string, before []*inbox.Event) {
	t.Helper()
	Put(t, one, before...)
	inboxes := []inbox.Inbox{one, other}
	origins := []inbox.Origin{called, asked, asked, asked}
	events := make([]*inbox.Event, len(origins))
	results := make([]string, len(origins))
	race(t, len(origins), func(ctx context.Context, i int) (err error) {
		events[i] = Tells(NewEvent(task, inbox.Completed), origins[i], "done")
		results[i], err = inboxes[i%2].Put(ctx, events[i])
		return err
	})
	var stored []string
	for i, duplicateOf := range results {
		if duplicateOf == "" {
			stored = append(stored, events[i].ID)
		}
	}
	require.Len(t, stored, 1, "one is stored")
	for i, duplicateOf := range results {
		if duplicateOf != "" {
			require.Equal(t, stored[0], duplicateOf, "event %d", i)
		}
	}
}

// RaceOfOutcomes has different outcomes of a task told at the same moment, each called at
// one inbox and asked for at another one, and checks that each is stored once, with a
// revision of its own.
func RaceOfOutcomes(t testing.TB, one, other inbox.Inbox, task string) {
	t.Helper()
	const outcomes = 3
	inboxes := []inbox.Inbox{one, other}
	events := make([]*inbox.Event, 2*outcomes)
	results := make([]string, len(events))
	race(t, len(events), func(ctx context.Context, i int) (err error) {
		events[i] = Tells(NewEvent(task, inbox.Completed), inbox.Origin(i%2), fmt.Sprint("outcome ", i/2)) //nolint:gosec // 0 or 1
		results[i], err = PutRevised(ctx, inboxes[i%2], events[i])
		return err
	})
	var revisions []int
	stored := map[inbox.OutcomeKey]string{}
	for i, e := range events {
		if results[i] == "" {
			require.Empty(t, stored[e.Outcome], "an outcome is stored twice")
			stored[e.Outcome] = e.ID
			revisions = append(revisions, e.Revision)
			withPatience(func(ctx context.Context) {
				r, err := one.Get(ctx, e.ID)
				require.NoError(t, err)
				require.Equal(t, e, r.Event)
			})
		}
	}
	require.ElementsMatch(t, []int{1, 2, 3}, revisions)
	for i, e := range events {
		if results[i] != "" {
			require.Equal(t, stored[e.Outcome], results[i])
		}
	}
}

// race calls f n times at once.
func race(t testing.TB, n int, f func(ctx context.Context, i int) error) {
	t.Helper()
	begin := make(chan struct{})
	errs := make([]error, n)
	withPatience(func(ctx context.Context) {
		var calls sync.WaitGroup
		for i := range n {
			calls.Go(func() {
				<-begin
				errs[i] = f(ctx, i)
			})
		}
		close(begin)
		calls.Wait()
	})
	require.NoError(t, errors.Join(errs...))
}

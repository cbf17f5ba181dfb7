package inboxtest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// crash crashes the inbox, or closes it if it cannot crash, and opens it again.
func (s *suite) crash() {
	s.Helper()
	if s.storage.Crash == nil {
		s.reopen()
		return
	}
	s.storage.Crash(s.TB, s.in)
	s.open(inbox.Policy{Keep: 24 * time.Hour, Quarantine: 10})
}

var lifetimeTests = []test{
	{"leases come back when it is closed", func(s *suite) { s.leasesComeBack((*suite).reopen) }},
	{"leases come back when it crashes", func(s *suite) { s.leasesComeBack((*suite).crash) }},
	{"what was acknowledged outlives a crash", func(s *suite) {
		delivered := s.put("a", inbox.Completed)
		s.settle(inbox.Deliver, s.leaseOf(delivered))
		dead := s.put("b", inbox.Completed)
		s.settle(inbox.GiveUp, s.leaseOf(dead))
		old, final := s.put("c", inbox.InProgress), s.put("c", inbox.Completed)
		waits := s.put("c", inbox.Failed)
		purged := s.put("d", inbox.Completed)
		require.NoError(s, s.in.Purge(s.ctx(), purged.ID, ""))
		q := s.suspects(1)[0]
		before := s.list(inbox.Filter{}, 100)
		s.crash()
		require.Equal(s, before, s.list(inbox.Filter{}, 100))
		s.requireState(inbox.Superseded, old)
		got, err := s.in.Suspect(s.ctx(), q.ID)
		require.NoError(s, err)
		require.Equal(s, q, got)
		duplicateOf, err := s.in.Put(s.ctx(), delivered)
		require.NoError(s, err)
		require.Equal(s, delivered.ID, duplicateOf)
		s.settle(inbox.Deliver, s.leaseOf(final))
		s.leaseOf(waits)
	}},
	{"a retry keeps its time across a crash", func(s *suite) {
		e := s.put("task", inbox.Completed)
		o := Outcome(inbox.Retry, s.leaseOf(e))
		o.Due = time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		require.NoError(s, s.queue.Settle(s.ctx(), o))
		s.crash()
		s.nothingDue()
		require.Equal(s, o.Due, s.get(e).Due)
	}},
	{"one in progress that was leased at the crash gives way to the final one", func(s *suite) {
		a := s.put("task", inbox.InProgress)
		b := s.put("other", inbox.InProgress)
		leases := s.lease(2)
		s.settle(inbox.Retry, leases[1])
		s.lease(1)
		finals := []string{s.put("task", inbox.Completed).ID, s.put("other", inbox.Failed).ID}
		s.crash()
		require.ElementsMatch(s, finals, ids(s.lease(2)))
		s.nothingDue()
		s.requireState(inbox.Superseded, a)
		s.requireState(inbox.Superseded, b)
	}},
	{"a replayed event goes before one that was leased at the crash", func(s *suite) {
		first := s.put("task", inbox.Completed)
		s.settle(inbox.Deliver, s.leaseOf(first))
		second := s.put("task", inbox.Completed)
		s.leaseOf(second)
		require.NoError(s, s.in.Replay(s.ctx(), first.ID, ""))
		s.crash()
		s.settle(inbox.Deliver, s.leaseOf(first))
		s.leaseOf(second)
	}},
	{"a closed inbox says so", func(s *suite) {
		e := s.put("task", inbox.Completed)
		l := s.leaseOf(e)
		require.NoError(s, s.in.Close())
		require.NoError(s, s.in.Close())
		s.requireClosed(e, l)
	}},
	{"closing ends the calls under way", func(s *suite) {
		var leased error
		lease := background(func() { _, leased = s.queue.Lease(s.ctx(), 1) })
		var put sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			var events []*inbox.Event
			for n := range 100 {
				events = append(events, s.event(fmt.Sprintf("task %d %d", i, n), inbox.InProgress))
			}
			put.Go(func() {
				for _, e := range events {
					if _, errs[i] = s.in.Put(context.Background(), e); errs[i] != nil {
						return
					}
				}
			})
		}
		require.NoError(s, s.in.Close())
		put.Wait()
		for _, err := range errs {
			if err != nil {
				require.ErrorIs(s, err, inbox.ErrClosed)
			}
		}
		s.await(lease)
		if leased != nil { // it may have leased an event before
			require.ErrorIs(s, leased, inbox.ErrClosed)
		}
	}},
	{"opening waits for a predecessor that closes", func(s *suite) {
		e := s.put("task", inbox.Completed)
		old := s.in
		done := background(func() { _ = old.Close() })
		s.open(inbox.Policy{Keep: time.Hour})
		s.await(done)
		s.leaseOf(e)
	}},
}

func (s *suite) leasesComeBack(restart func(*suite)) {
	a, b := s.put("a", inbox.Completed), s.put("b", inbox.Completed)
	leases := s.lease(2)
	s.settle(inbox.Retry, leases[0])
	l := s.leaseOf(a)
	require.Equal(s, 2, l.Attempt)
	restart(s)
	leases = s.lease(2)
	attempts := map[string]int{}
	for _, l := range leases {
		attempts[l.Event.ID] = l.Attempt
	}
	require.Equal(s, map[string]int{a.ID: 2, b.ID: 1}, attempts)
	require.ErrorContains(s, s.queue.Settle(s.ctx(), Outcome(inbox.Deliver, l)), a.ID)
	s.settle(inbox.Deliver, leases...)
	s.nothingDue()
}

// requireClosed checks that every call fails.
func (s *suite) requireClosed(e *inbox.Event, l *inbox.Lease) {
	s.Helper()
	ctx := s.ctx()
	calls := map[string]func() error{
		"Put":          func() error { _, err := s.in.Put(ctx, s.event("other", inbox.Completed)); return err },
		"Lease":        func() error { _, err := s.queue.Lease(ctx, 1); return err },
		"Settle":       func() error { return s.queue.Settle(ctx, Outcome(inbox.Deliver, l)) },
		"Get":          func() error { _, err := s.in.Get(ctx, e.ID); return err },
		"List":         func() error { _, _, err := s.in.List(ctx, inbox.Filter{}, inbox.Page{}); return err },
		"Replay":       func() error { return s.in.Replay(ctx, e.ID, "") },
		"Purge":        func() error { return s.in.Purge(ctx, e.ID, "") },
		"Stats":        func() error { _, err := s.in.Stats(ctx); return err },
		"Quarantine":   func() error { return s.in.Quarantine(ctx, &inbox.Suspect{Status: 400}) },
		"Suspects":     func() error { _, _, err := s.in.Suspects(ctx, inbox.Page{}); return err },
		"Suspect":      func() error { _, err := s.in.Suspect(ctx, 1); return err },
		"Unquarantine": func() error { return s.in.Unquarantine(ctx, 1) },
		"SetHold":      func() error { return s.queue.SetHold(ctx, inbox.Hold{}) },
		"Hold":         func() error { _, err := s.queue.Hold(ctx); return err },
	}
	for name, call := range calls {
		require.ErrorIs(s, call(), inbox.ErrClosed, name)
	}
	s.in.SetPolicy(inbox.Policy{})
}

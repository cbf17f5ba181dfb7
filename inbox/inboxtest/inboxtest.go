// Package inboxtest is the suite that every inbox passes. It tests the
// sentences of the interface's documentation, and uses the interface alone.
//
// inboxtest.go runs it and has the methods that all tests use. Each other file
// tests a part of the interface, in the order in which an event meets it:
// put.go, outcome.go, lease.go, settle.go, lookup.go, list.go, find.go, edit.go, and so on.
// replay.go tests what stays of an event that is delivered again.
// tasks.go and task_lease.go test what is tracked.
// destination*.go, move.go and elsewhere.go test several destinations. helpers.go is for
// the inboxes' own tests, too.
package inboxtest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Storage is a place where an inbox keeps its events.
type Storage struct {
	// Open opens the inbox. After Close or Crash it opens the same storage
	// again.
	Open func(t testing.TB, p inbox.Policy) inbox.Inbox

	// Crash ends an inbox as the death of its process would: without Close, and
	// without writing anything more. Nil if the storage cannot do that.
	Crash func(t testing.TB, in inbox.Inbox)

	// Remote says that each call is a round trip to a server. Tests that put as
	// many events as possible then put fewer.
	Remote bool

	// AllowNewest returns once the inbox leases the newest out of turn. Nil if it
	// always does.
	AllowNewest func(t testing.TB, in inbox.Inbox)
}

// churnRounds is the number of times that events are added and removed while a
// list is read.
func (s *suite) churnRounds() int {
	if s.storage.Remote {
		return 100
	}
	return 2000
}

// Factory makes an empty storage, and registers what is to be cleaned up with
// t.Cleanup.
type Factory func(t testing.TB) Storage

// Run runs the suite.
func Run(t *testing.T, factory Factory) {
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"Put", putTests},
		{"Outcome", outcomeTests},
		{"Lease", leaseTests},
		{"Order", orderTests},
		{"Settle", settleTests},
		{"LookUp", lookUpTests},
		{"List", listTests},
		{"Find", findTests},
		{"Trace", traceTests},
		{"Edit", editTests},
		{"Replay", replayTests},
		{"Quarantine", quarantineTests},
		{"Tasks", trackTests},
		{"TaskLease", taskLeaseTests},
		{"Hold", holdTests},
		{"Clock", clockTests},
		{"Probe", probeTests},
		{"Lifetime", lifetimeTests},
	} {
		run(t, group.name, group.tests, factory)
	}
}

func run(t *testing.T, group string, tests []test, factory Factory) {
	t.Run(group, func(t *testing.T) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				s := &suite{TB: t, storage: factory(t)}
				s.open(inbox.Policy{Keep: 24 * time.Hour, Quarantine: 10})
				t.Cleanup(func() { require.NoError(t, s.in.Close()) })
				test.run(s)
			})
		}
	})
}

type test struct {
	name string
	run  func(s *suite)
}

// suite is one test with its open inbox.
type suite struct {
	testing.TB
	storage Storage
	in      inbox.Inbox
	queue   inbox.Queue // of the default destination
	content int         // number of the last event
}

func (s *suite) open(p inbox.Policy) {
	s.Helper()
	s.in = s.storage.Open(s.TB, p)
	require.NotNil(s, s.in)
	var err error
	s.queue, err = s.in.Queue(s.ctx(), inbox.DefaultDestination)
	require.NoError(s, err)
}

// reopen closes the inbox and opens it again.
func (s *suite) reopen() {
	s.Helper()
	require.NoError(s, s.in.Close())
	s.open(inbox.Policy{Keep: 24 * time.Hour, Quarantine: 10})
}

// ctx returns a context that ends when patience does.
func (s *suite) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	s.Cleanup(cancel)
	return ctx
}

// event makes an event that differs from all others, with its own time of
// arrival.
func (s *suite) event(task string, status inbox.Status) *inbox.Event {
	s.content++
	e := &inbox.Event{
		ID:         inbox.NewID(task, fmt.Appendf(nil, "%s %d", task, s.content)),
		TaskID:     task,
		Type:       "avatar",
		Status:     status,
		ReceivedAt: time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC).Add(time.Duration(s.content) * time.Second),
		Body:       fmt.Appendf(nil, `{"taskId":%q,"n":%d}`, task, s.content),
	}
	trace(e, s.content)
	return e
}

// put stores a new event.
func (s *suite) put(task string, status inbox.Status) *inbox.Event {
	s.Helper()
	e := s.event(task, status)
	s.putEvent(e)
	return e
}

func (s *suite) putEvent(e *inbox.Event) {
	s.Helper()
	Put(s, s.in, e)
}

// lease leases what is due until it has n leases.
func (s *suite) lease(n int) []*inbox.Lease {
	s.Helper()
	return Lease(s, s.queue, n)
}

// leaseOf leases the only event that is due.
func (s *suite) leaseOf(e *inbox.Event) *inbox.Lease {
	s.Helper()
	leases := s.lease(1)
	require.Equal(s, e, leases[0].Event)
	s.nothingDue()
	return leases[0]
}

// nothingDue checks that no event is due, neither before nor beside one that is
// put last.
func (s *suite) nothingDue() {
	s.Helper()
	s.content++
	last := s.put(fmt.Sprintf("sentinel %d", s.content), inbox.Completed)
	leases, err := s.queue.Lease(s.ctx(), 100)
	require.NoError(s, err)
	require.Equal(s, []string{last.ID}, ids(leases))
	require.NoError(s, s.queue.Settle(s.ctx(), Outcome(inbox.Deliver, leases[0])))
	require.NoError(s, s.in.Purge(s.ctx(), last.ID, ""))
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	leases, err = s.queue.Lease(ctx, 100)
	require.ErrorIs(s, err, context.DeadlineExceeded)
	require.Empty(s, leases)
}

// settle settles the leases with the verdict. A retry or a release is due at
// once.
func (s *suite) settle(v inbox.Verdict, leases ...*inbox.Lease) {
	s.Helper()
	Settle(s, s.queue, v, leases...)
}

// settleDue settles a lease with the verdict Retry or Release and a due time.
func (s *suite) settleDue(v inbox.Verdict, l *inbox.Lease, due time.Time) {
	s.Helper()
	o := Outcome(v, l)
	o.Due = due
	require.NoError(s, s.queue.Settle(s.ctx(), o))
}

// get returns an event that must exist.
func (s *suite) get(e *inbox.Event) *inbox.Record {
	s.Helper()
	r, err := s.in.Get(s.ctx(), e.ID)
	require.NoError(s, err)
	require.Equal(s, e, r.Event)
	return r
}

// requireState checks the state of an event.
func (s *suite) requireState(want inbox.State, e *inbox.Event) {
	s.Helper()
	require.Equal(s, want.String(), s.get(e).State.String())
}

// stats returns the summary.
func (s *suite) stats() inbox.Stats {
	s.Helper()
	stats, err := s.in.Stats(s.ctx())
	require.NoError(s, err)
	return stats
}

func ids(leases []*inbox.Lease) []string {
	names := make([]string, len(leases))
	for i, l := range leases {
		names[i] = l.Event.ID
	}
	return names
}

func recordIDs(records []*inbox.Record) []string {
	names := make([]string, len(records))
	for i, r := range records {
		names[i] = r.Event.ID
	}
	return names
}

// idsOf returns the ids of events, newest first.
func idsOf(events ...*inbox.Event) []string {
	names := make([]string, len(events))
	for i, e := range events {
		names[i] = e.ID
	}
	slices.Reverse(names)
	return names
}

// eventually waits for what the inbox does by itself.
func (s *suite) eventually(what string, holds func() bool) {
	s.Helper()
	Eventually(s, holds, what)
}

// background runs f concurrently and returns a channel that is closed when it
// returns.
func background(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return done
}

// await waits for a channel returned by background.
func (s *suite) await(done <-chan struct{}) {
	s.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		require.Fail(s, "it goes on for too long")
	}
}

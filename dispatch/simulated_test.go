package dispatch

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// simulated is an inbox for very many events, each of a task of its own. It leases
// in the order that inbox.Picker promises.
type simulated struct {
	inbox.Leaser // the rest is never called

	mu      sync.Mutex
	fresh   []*simEvent // never leased, in order
	retries dueHeap
	change  chan struct{}
	share   int
	late    []time.Duration // from arrival to delivery, of those that are watched
	backlog int             // delivered, of those that are not
	leases  int
	tasks   int
	types   map[string]string // of kinds; the others have none
	held    map[int64]*simEvent
}

type simEvent struct {
	event   *inbox.Event
	watched bool
	tried   int
	due     time.Time
}

type dueHeap []*simEvent

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(*simEvent)) }
func (h *dueHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// put adds events of a kind, which is how the destination tells them apart.
func (s *simulated) put(kind string, n int, watched bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		s.tasks++
		s.fresh = append(s.fresh, &simEvent{watched: watched, event: &inbox.Event{
			ID: kind, Type: s.types[kind], TaskID: fmt.Sprint(kind, s.tasks), ReceivedAt: time.Now(),
		}})
	}
	close(s.change)
	s.change = make(chan struct{})
}

func (s *simulated) Pick(ctx context.Context, w inbox.Want) ([]*inbox.Lease, error) {
	for {
		s.mu.Lock()
		leases, next, change := s.pick(w), time.Time{}, s.change
		if len(s.retries) > 0 && !w.Untried && w.Max > w.Newest {
			next = s.retries[0].due
		}
		s.mu.Unlock()
		if len(leases) > 0 {
			return leases, nil
		}
		var timer <-chan time.Time
		if !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-change:
		case <-timer:
		}
	}
}

func (s *simulated) pick(w inbox.Want) (leases []*inbox.Lease) {
	inTurn := w.Max - w.Newest
	grant := func(e *simEvent, newest bool) {
		leases = append(leases, &inbox.Lease{Event: e.event, Attempt: e.tried + 1, Newest: newest, Untried: e.due.IsZero(), Ref: s.hold(e)})
	}
	retry := func(n int) {
		for ; n > 0 && len(s.retries) > 0 && !w.Untried && !s.retries[0].due.After(time.Now()); n-- {
			grant(heap.Pop(&s.retries).(*simEvent), false)
		}
	}
	s.share += inTurn
	retry(s.share / 4)
	s.share %= 4
	n := min(inTurn-len(leases), len(s.fresh))
	for _, e := range s.fresh[:max(n, 0)] {
		grant(e, false)
	}
	s.fresh = s.fresh[max(n, 0):]
	retry(inTurn - len(leases))
	for n := min(w.Newest, len(s.fresh)); n > 0; n-- {
		grant(s.fresh[len(s.fresh)-1], true)
		s.fresh = s.fresh[:len(s.fresh)-1]
	}
	return leases
}

// hold keeps a leased event and returns its handle.
func (s *simulated) hold(e *simEvent) int64 {
	s.leases++
	if s.held == nil {
		s.held = make(map[int64]*simEvent)
	}
	s.held[int64(s.leases)] = e
	return int64(s.leases)
}

func (s *simulated) Settle(_ context.Context, outcomes ...inbox.Outcome) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range outcomes {
		e := s.held[o.Lease.Ref]
		delete(s.held, o.Lease.Ref)
		if o.Verdict != inbox.Release {
			e.tried++
		}
		switch {
		case o.Verdict == inbox.Retry, o.Verdict == inbox.Release:
			if o.Due.IsZero() && e.due.IsZero() { // it was not even tried
				at, _ := slices.BinarySearchFunc(s.fresh, e.event.ReceivedAt, func(f *simEvent, at time.Time) int { return f.event.ReceivedAt.Compare(at) })
				s.fresh = slices.Insert(s.fresh, at, e)
				continue
			}
			e.due = o.Due
			if e.due.IsZero() {
				e.due = time.Now()
			}
			heap.Push(&s.retries, e)
		case o.Verdict == inbox.Deliver && e.watched:
			s.late = append(s.late, time.Since(e.event.ReceivedAt))
		case o.Verdict == inbox.Deliver:
			s.backlog++
		}
	}
	close(s.change)
	s.change = make(chan struct{})
	return nil
}

// measured says how the watched events fared. Those that were not delivered count
// as late as they are old.
func (s *simulated) measured() (median, most time.Duration, delivered, backlog int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	late := slices.Clone(s.late)
	for _, e := range slices.Concat(s.fresh, s.retries) {
		if e.watched {
			late = append(late, time.Since(e.event.ReceivedAt))
		}
	}
	if len(late) == 0 {
		return 0, 0, 0, s.backlog
	}
	slices.Sort(late)
	return late[len(late)/2], late[len(late)-1], len(s.late), s.backlog
}

// service is a destination that answers as the kind of an event says.
type service struct {
	mu    sync.Mutex
	kinds map[string]func() Result
	made  int // attempts
}

func (s *service) attempt(_ context.Context, l *inbox.Lease) Result {
	s.mu.Lock()
	s.made++
	answer := s.kinds[l.Event.ID]
	s.mu.Unlock()
	return answer()
}

// attempts counts those that have begun.
func (s *service) attempts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made
}

func (s *service) set(kind string, answer func() Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kinds[kind] = answer
}

// after returns an answer that takes a while.
func after(d time.Duration, r Result) func() Result {
	return func() Result {
		time.Sleep(d)
		return r
	}
}

// mute returns no answer until an attempt's time is over.
func mute(timeout time.Duration) func() Result {
	return after(timeout, Result{Unreachable: true, Reason: "timeout"})
}

var (
	quick    = after(5*time.Millisecond, Result{Status: 204})
	broken   = after(5*time.Millisecond, Result{Status: 500})
	refusing = after(time.Millisecond, Result{Unreachable: true, Reason: "connection refused"})
	silent   = mute(time.Second)
)

// simulate runs a dispatcher with the default settings against a service.
func simulate(t *testing.T, kinds map[string]func() Result, run func(s *simulated, up *service, d *Dispatcher)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &simulated{change: make(chan struct{})}
		up := &service{kinds: kinds}
		d := New(s, Settings{Attempt: up.attempt})
		d.Start()
		run(s, up, d)
		require.NoError(t, d.Stop(t.Context()))
	})
}

// arrive puts events of a kind evenly, for so long.
func arrive(s *simulated, rate int, lasts time.Duration, kinds ...string) {
	for began := time.Now(); time.Since(began) < lasts; time.Sleep(time.Second / time.Duration(rate)) {
		for _, kind := range kinds {
			s.put(kind, 1, kind == "good")
		}
	}
}

func (s *simulated) freshLeft() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.fresh)
}

// pending counts the events that were not delivered.
func (s *simulated) pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.fresh) + len(s.retries)
}

// soon checks that the watched events were delivered soon.
func soon(t *testing.T, s *simulated) {
	t.Helper()
	median, most, delivered, _ := s.measured()
	t.Logf("median %s, most %s, %d delivered", median, most, delivered)
	assert.Less(t, median, time.Second)
	assert.Less(t, most, 10*time.Second)
}

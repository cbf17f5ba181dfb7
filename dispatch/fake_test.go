package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeInbox is an inbox.Inbox in memory, as far as a Dispatcher uses it: it keeps
// the order of a task and due times, its Lease waits, and a release does not count as
// an attempt. broken lists what the Dispatcher did against the contract.
type fakeInbox struct {
	inbox.Inbox // other methods are never called

	mu      sync.Mutex
	tasks   map[string][]*entry // pending, in the order of put
	ended   map[string]*entry
	seq     int64
	change  chan struct{} // closed when something may have become due
	leasing bool
	closed  bool
	broken  []string
	hold    inbox.Hold

	leaseErr, settleErr error
	leases, settles     int // calls
	mostUnsettled       int
	unsettled           int
	gate                chan struct{} // unless nil, Settle waits until it is closed
}

type entry struct {
	event    *inbox.Event
	ref      int64
	lease    *inbox.Lease
	leased   bool // ever
	attempts []inbox.Attempt
	replay   inbox.Replay
	releases int
	due      time.Time
	state    inbox.State
}

func newFake() *fakeInbox {
	return &fakeInbox{tasks: map[string][]*entry{}, ended: map[string]*entry{}, change: make(chan struct{})}
}

func (f *fakeInbox) put(task, id string, received time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	f.tasks[task] = append(f.tasks[task], &entry{
		event: &inbox.Event{ID: id, TaskID: task, ReceivedAt: received},
		ref:   f.seq,
		due:   time.Now(),
	})
	f.changed()
}

// putReplayed puts an event that is replayed now after so many attempts.
func (f *fakeInbox) putReplayed(id string, received time.Time, after int) {
	f.put(id, id, received)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tasks[id][0].replay = inbox.Replay{At: time.Now(), After: after}
}

// putMany puts n events of as many tasks: prefix0, prefix1, …
func (f *fakeInbox) putMany(prefix string, n int) {
	for i := range n {
		name := fmt.Sprint(prefix, i)
		f.put(name, name, time.Now())
	}
}

func (f *fakeInbox) changed() {
	close(f.change)
	f.change = make(chan struct{})
}

func (f *fakeInbox) Lease(ctx context.Context, most int) ([]*inbox.Lease, error) {
	f.mu.Lock()
	f.leases++
	if f.leasing {
		f.broken = append(f.broken, "two goroutines lease")
	}
	if most < 1 {
		f.broken = append(f.broken, fmt.Sprint("Lease of ", most))
	}
	f.leasing = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.leasing = false
		f.mu.Unlock()
	}()
	for {
		leases, next, change, err := f.tryLease(ctx, most)
		if len(leases) > 0 || err != nil {
			return leases, err
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

func (f *fakeInbox) tryLease(ctx context.Context, most int) (leases []*inbox.Lease, next time.Time, change <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return nil, next, nil, fmt.Errorf("fake: %w", inbox.ErrClosed)
	case ctx.Err() != nil:
		return nil, next, nil, ctx.Err()
	case f.leaseErr != nil:
		return nil, next, nil, f.leaseErr
	}
	var due []*entry
	now := time.Now()
	for _, pending := range f.tasks {
		switch e := pending[0]; {
		case e.lease != nil:
		case !e.due.After(now):
			due = append(due, e)
		case next.IsZero() || e.due.Before(next):
			next = e.due
		}
	}
	slices.SortFunc(due, func(a, b *entry) int {
		if a.leased && b.leased {
			return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.ref, b.ref))
		}
		return cmp.Or(cmp.Compare(ordinal(a.leased), ordinal(b.leased)), cmp.Compare(a.ref, b.ref))
	})
	for _, e := range due[:min(most, len(due))] {
		e.leased = true
		e.lease = &inbox.Lease{Event: e.event, Attempt: e.replay.After + len(e.attempts) + 1, Replay: e.replay, Ref: e.ref}
		leases = append(leases, e.lease)
	}
	f.unsettled += len(leases)
	f.mostUnsettled = max(f.mostUnsettled, f.unsettled)
	return leases, next, f.change, nil
}

func ordinal(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (f *fakeInbox) Settle(ctx context.Context, outcomes ...inbox.Outcome) error {
	f.mu.Lock()
	gate := f.gate
	f.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settles++
	switch {
	case f.closed:
		return inbox.ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	case f.settleErr != nil:
		return f.settleErr
	}
	var errs []error
	for _, o := range outcomes {
		errs = append(errs, f.settleOne(o))
	}
	f.changed()
	return errors.Join(errs...)
}

func (f *fakeInbox) settleOne(o inbox.Outcome) error {
	pending := f.tasks[o.Lease.Event.TaskID]
	if len(pending) == 0 || pending[0].lease != o.Lease {
		return fmt.Errorf("lease %d is not held: %w", o.Lease.Ref, inbox.ErrState)
	}
	f.unsettled--
	e := pending[0]
	e.lease = nil
	if o.Verdict == inbox.Release {
		e.releases++
	} else {
		e.attempts = append(e.attempts, o.Attempt)
	}
	switch o.Verdict {
	case inbox.Deliver:
		f.end(e, inbox.Delivered)
	case inbox.GiveUp:
		f.end(e, inbox.Dead)
	default:
		e.due = o.Due
	}
	return nil
}

func (f *fakeInbox) end(e *entry, s inbox.State) {
	e.state = s
	f.ended[e.event.ID] = e
	task := e.event.TaskID
	if f.tasks[task] = f.tasks[task][1:]; len(f.tasks[task]) == 0 {
		delete(f.tasks, task)
	}
}

func (f *fakeInbox) SetHold(_ context.Context, h inbox.Hold) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hold = h
	return nil
}

func (f *fakeInbox) Hold(context.Context) (inbox.Hold, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hold, nil
}

func (f *fakeInbox) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.changed()
	return nil
}

// set changes the fake while it is in use.
func (f *fakeInbox) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	f.changed()
}

// count returns how many events are in that state.
func (f *fakeInbox) count(s inbox.State) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	if s == inbox.Pending {
		for _, pending := range f.tasks {
			n += len(pending)
		}
		return n
	}
	for e := range maps.Values(f.ended) {
		if e.state == s {
			n++
		}
	}
	return n
}

// held returns how many leases are not settled yet.
func (f *fakeInbox) held() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unsettled
}

// leaseCalls returns how often Lease was called.
func (f *fakeInbox) leaseCalls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leases
}

// find returns a copy of the event's entry.
func (f *fakeInbox) find(id string) entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.ended[id]; e != nil {
		return *e
	}
	for _, pending := range f.tasks {
		for _, e := range pending {
			if e.event.ID == id {
				return *e
			}
		}
	}
	return entry{}
}

// spent returns how many attempts of all events counted.
func (f *fakeInbox) spent() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, e := range f.ended {
		n += len(e.attempts)
	}
	for _, pending := range f.tasks {
		for _, e := range pending {
			n += len(e.attempts)
		}
	}
	return n
}

// released returns how many leases of pending events were released.
func (f *fakeInbox) released() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, pending := range f.tasks {
		for _, e := range pending {
			n += e.releases
		}
	}
	return n
}

func (f *fakeInbox) complaints() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.broken)
}

package dispatch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// How long Stop waits beyond its context.
const (
	cancelGrace = 5 * time.Second // for attempts to notice that they are cancelled
	settleGrace = 5 * time.Second // for the last outcomes to be settled
)

// Dispatcher delivers the events of one inbox. It has one goroutine that leases,
// one that settles, and one for each attempt that may be under way.
type Dispatcher struct {
	in     inbox.Leaser
	picker inbox.Picker // nil if the inbox cannot lease out of turn

	mu       sync.Mutex
	settings *Settings
	hold     hold
	queue    waiting         // leased, not yet attempted
	tempo    tempo           // of attempts
	pace     pace            // of attempts that may begin
	lately   lately          // attempts
	classes  classes         // of events
	damper   damper          // of notices of trouble
	outcomes []inbox.Outcome // waiting for the settler
	settling int             // outcomes that the settler is working on

	unsettled Unsettled // zero if the last try to settle succeeded

	workers  int
	underWay int // attempts being made
	started  bool
	stopping bool
	notices  []notice           // for the Observer, in order
	recall   context.CancelFunc // cancels the Lease under way
	narrow   bool               // that Lease is for the newest events alone

	work  *sync.Cond    // wakes workers: the queue has grown, or one may have to end
	lease chan struct{} // wakes the leaser: there may be room, or it has to end
	ready chan struct{} // wakes the settler: outcomes has grown

	quit    chan struct{}  // closed when Stop begins
	drained chan struct{}  // closed when no more outcomes come
	settled chan struct{}  // closed when the settler has ended
	tasks   sync.WaitGroup // the leaser and the workers

	attempts       context.Context // parent of every attempt's context
	cancelAttempts context.CancelFunc
	settles        context.Context // context of every Settle
	cancelSettles  context.CancelFunc

	noticing sync.Mutex // keeps notices in order; taken before mu
	stopOnce sync.Once
	stopErr  error
	lost     lost
}

// New makes a Dispatcher that does nothing until Start. The caller closes the
// inbox, after Stop.
func New(in inbox.Leaser, s Settings) *Dispatcher {
	d := &Dispatcher{
		in:       in,
		settings: s.withDefaults(),
		lease:    make(chan struct{}, 1),
		ready:    make(chan struct{}, 1),
		quit:     make(chan struct{}),
		drained:  make(chan struct{}),
		settled:  make(chan struct{}),
	}
	d.hold = hold{max: d.settings.Max, spared: spared, random: rand.Float64}
	d.hold.load = pressure{most: d.settings.Concurrency, limit: d.settings.Concurrency, own: true}
	d.pace.use(d.settings.Rate)
	d.queue.paced = d.pace.limited()
	d.picker, _ = in.(inbox.Picker)
	d.work = sync.NewCond(&d.mu)
	// These outlive requests and configs; Stop ends them.
	d.attempts, d.cancelAttempts = context.WithCancel(context.Background())
	d.settles, d.cancelSettles = context.WithCancel(context.Background())
	return d
}

// Start begins to deliver. Further calls, and one after Stop, do nothing.
func (d *Dispatcher) Start() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.started || d.stopping {
		return
	}
	d.started = true
	d.tasks.Go(d.leaseLoop)
	go d.settleLoop()
	d.grow()
}

// Use replaces the settings. Attempts that begin from now on use them; those
// under way go on unchanged. A held destination is tried at once, since the new
// settings may lead to another one. A hold by hand stays.
func (d *Dispatcher) Use(s Settings) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settings = s.withDefaults()
	d.pace.use(d.settings.Rate)
	d.queue.paced = d.pace.limited()
	d.hold.load.resize(d.settings.Concurrency)
	d.hold.renew(d.settings.Max, time.Now())
	if d.started && !d.stopping {
		d.grow()
		d.handBack(d.settings.Concurrency)
	}
	d.work.Broadcast()
	d.interrupt()
}

// UnderWay returns how many attempts are being made.
func (d *Dispatcher) UnderWay() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.underWay
}

// Stop ends the dispatcher. It stops leasing at once, lets attempts under way
// finish until ctx ends, then cancels them and releases their events without
// counting the attempt. Outcomes are settled even after ctx has ended, for up to
// 5 seconds.
//
// It returns when every goroutine has ended. It returns an error if outcomes could
// not be settled: their events are pending again when the inbox is next opened and
// may be delivered twice. It also does if an attempt ignored its cancellation for
// 5 seconds. Further calls wait for the first and return its error.
func (d *Dispatcher) Stop(ctx context.Context) error {
	d.stopOnce.Do(func() { d.stopErr = d.stop(ctx) })
	return d.stopErr
}

func (d *Dispatcher) stop(ctx context.Context) error {
	d.mu.Lock()
	d.stopping = true
	started := d.started
	d.handBack(0)
	d.work.Broadcast()
	d.interrupt()
	d.mu.Unlock()
	close(d.quit)
	defer d.cancelAttempts()
	defer d.cancelSettles()
	if !started {
		return nil
	}
	stuck := d.drain(ctx)
	close(d.drained)
	deadline := time.AfterFunc(settleGrace, d.cancelSettles)
	defer deadline.Stop()
	<-d.settled
	return errors.Join(stuck, d.lost.err())
}

// drain waits for the leaser and the workers to end.
func (d *Dispatcher) drain(ctx context.Context) error {
	ended := make(chan struct{})
	go func() {
		d.tasks.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	d.cancelAttempts()
	grace := time.NewTimer(cancelGrace)
	defer grace.Stop()
	select {
	case <-ended:
		return nil
	case <-grace.C:
		d.mu.Lock()
		defer d.mu.Unlock()
		return fmt.Errorf("dispatch: %d workers still busy %s after their attempts were cancelled", d.workers, cancelGrace)
	}
}

// grow starts the workers that are missing. Surplus workers end by themselves.
func (d *Dispatcher) grow() {
	for d.workers < d.settings.Concurrency {
		d.workers++
		d.tasks.Go(d.workLoop)
	}
}

// handBack releases queued leases, the last ones first, until no more than left
// remain.
func (d *Dispatcher) handBack(left int) {
	for d.queue.len() > left {
		d.settle(inbox.Outcome{Lease: d.queue.popLast(), Verdict: inbox.Release})
	}
}

// settle passes an outcome to the settler.
func (d *Dispatcher) settle(o inbox.Outcome) {
	d.outcomes = append(d.outcomes, o)
	wake(d.ready)
}

// interrupt makes the leaser look again at how much it may lease.
func (d *Dispatcher) interrupt() {
	if d.recall != nil {
		d.recall()
	}
	wake(d.lease)
}

// wake wakes the goroutine that waits on ch, or that will wait on it next.
func wake(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

package dispatch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// upstream is a destination whose answers a test decides.
type upstream struct {
	mu      sync.Mutex
	answer  func(l *inbox.Lease) Result
	slow    time.Duration
	running int
	most    int // running at once
	order   []string
	hits    []time.Time
}

func newUpstream(answer func(l *inbox.Lease) Result) *upstream { return &upstream{answer: answer} }

func (u *upstream) attempt(ctx context.Context, l *inbox.Lease) Result {
	u.mu.Lock()
	u.running++
	u.most = max(u.most, u.running)
	u.order = append(u.order, l.Event.ID)
	u.hits = append(u.hits, time.Now())
	answer, slow := u.answer, u.slow
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.running--
	}()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return Result{
				Unreachable: true,
				Cancelled:   errors.Is(ctx.Err(), context.Canceled),
				Reason:      ctx.Err().Error(),
			}
		}
	}
	return answer(l)
}

func (u *upstream) set(change func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change()
}

func (u *upstream) attempts() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.hits)
}

func (u *upstream) visits() (order []string, hits []time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.order), slices.Clone(u.hits)
}

// always answers every attempt the same.
func always(r Result) func(*inbox.Lease) Result {
	return func(*inbox.Lease) Result { return r }
}

var (
	ok   = Result{Status: 200}
	down = Result{Unreachable: true, Reason: "connection refused"}
	sick = Result{Status: 500}
)

// diary is an Observer that records the calls.
type diary struct {
	mu       sync.Mutex
	verdicts map[inbox.Verdict]int
	results  []Result
	dues     []time.Time
	took     []time.Duration
	holds    []string // "held: reason" and "resumed by hand: reason", in order
	lasted   []time.Duration
	longer   []Holding
	until    time.Time
	trouble  []error
	ask      func() // called by Held
}

func newDiary() *diary { return &diary{verdicts: map[inbox.Verdict]int{}} }

func (d *diary) Attempted(_ *inbox.Lease, r Result, v inbox.Verdict, due time.Time, took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.verdicts[v]++
	d.results = append(d.results, r)
	d.dues = append(d.dues, due)
	d.took = append(d.took, took)
}

func (d *diary) Held(h Holding) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holds = append(d.holds, "held"+hand(h)+": "+h.Reason)
	d.until = h.Until
	if d.ask != nil {
		d.ask()
	}
}

func (d *diary) Resumed(h Holding, after time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holds = append(d.holds, "resumed"+hand(h)+": "+h.Reason)
	d.lasted = append(d.lasted, after)
}

func (d *diary) Prolonged(h Holding) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.longer = append(d.longer, h)
}

// hand names the kind of a hold, as in diary.holds.
func hand(h Holding) string {
	if h.FromPeer {
		return " too"
	}
	if h.ByHand {
		return " by hand"
	}
	return ""
}

func (d *diary) Trouble(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trouble = append(d.trouble, err)
}

func (d *diary) read(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

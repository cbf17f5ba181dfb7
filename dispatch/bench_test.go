//go:build unix

package dispatch

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// endlessInbox costs next to nothing: it returns prepared leases, n in all.
type endlessInbox struct {
	inbox.Inbox

	mu    sync.Mutex
	spare []*inbox.Lease
	left  int // not yet leased
	open  int // not yet settled
	calls int
	free  chan struct{}
	done  chan struct{}
}

func newEndless(n int) *endlessInbox {
	e := &endlessInbox{left: n, open: n, free: make(chan struct{}, 1), done: make(chan struct{})}
	for i := range 4096 {
		e.spare = append(e.spare, &inbox.Lease{
			Event:   &inbox.Event{TaskID: fmt.Sprint(i), ReceivedAt: time.Now()},
			Attempt: 1,
		})
	}
	return e
}

func (e *endlessInbox) Lease(ctx context.Context, most int) ([]*inbox.Lease, error) {
	for {
		e.mu.Lock()
		if n := min(most, e.left, len(e.spare)); n > 0 {
			leases := make([]*inbox.Lease, n)
			rest := len(e.spare) - n
			copy(leases, e.spare[rest:])
			e.spare = e.spare[:rest]
			e.left -= n
			e.mu.Unlock()
			return leases, nil
		}
		e.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-e.free:
		}
	}
}

func (e *endlessInbox) Settle(_ context.Context, outcomes ...inbox.Outcome) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls++
	for _, o := range outcomes {
		e.spare = append(e.spare, o.Lease)
	}
	if e.open -= len(outcomes); e.open == 0 {
		close(e.done)
	}
	wake(e.free)
	return nil
}

// BenchmarkDispatch measures what an event costs apart from its attempt and its inbox,
// both of which cost next to nothing here.
func BenchmarkDispatch(b *testing.B) {
	for _, concurrency := range []int{1, 4, 32, 256} {
		b.Run(fmt.Sprint("concurrency=", concurrency), func(b *testing.B) {
			in := newEndless(b.N)
			d := New(in, Settings{
				Attempt:     func(context.Context, *inbox.Lease) Result { return Result{Status: 200} },
				Concurrency: concurrency,
			})
			b.ReportAllocs()
			b.ResetTimer()
			before := cpuTime(b)
			d.Start()
			<-in.done
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(b.N)/float64(in.calls), "events/settle")
			b.StopTimer()
			if err := d.Stop(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// cpuTime returns the CPU time that the process has used.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

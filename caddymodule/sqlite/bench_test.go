//go:build !windows

package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// openBench opens a new file with room for many events.
func openBench(b testing.TB) *store {
	b.Helper()
	return openWith(b, filepath.Join(b.TempDir(), "bench.db"), defaultLimits, func(o *options) { o.maxSize = 100 << 30 })
}

func BenchmarkPut(b *testing.B) {
	for _, backlog := range []int{0, 1_000_000} {
		b.Run(fmt.Sprintf("pending=%d", backlog), func(b *testing.B) {
			s := openBench(b)
			load(b, s, backlog, 512)
			b.ResetTimer()
			began := cpuTime()
			load(b, s, b.N, 64)
			b.ReportMetric(float64((cpuTime()-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
			b.StopTimer()
		})
	}
}

func BenchmarkPutLeaseSettle(b *testing.B) {
	s := openBench(b)
	b.ResetTimer()
	began := cpuTime()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for settled := 0; settled < b.N; {
			leases, err := s.Lease(ctx, 32)
			if err != nil {
				b.Error(err)
				return
			}
			outcomes := make([]inbox.Outcome, len(leases))
			for i, l := range leases {
				outcomes[i] = inboxtest.Outcome(inbox.Deliver, l)
			}
			if err := s.Settle(ctx, outcomes...); err != nil {
				b.Error(err)
				return
			}
			settled += len(leases)
		}
	}()
	load(b, s, b.N, 64)
	<-done
	cancel()
	b.ReportMetric(float64((cpuTime()-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
	b.StopTimer()
}

// cpuTime returns the CPU time of the process so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkPutNoticeAfter(b *testing.B) {
	for _, before := range []int{0, 10_000} {
		b.Run(fmt.Sprint(before), func(b *testing.B) {
			s := openBench(b)
			putNotices(b, s, "task", inbox.InProgress, 0, before)
			b.ResetTimer()
			putNotices(b, s, "task", inbox.InProgress, before, before+b.N)
		})
	}
}

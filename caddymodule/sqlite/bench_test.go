//go:build !windows

package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
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
			reportCPU(b, func() { load(b, s, b.N, 64) })
		})
	}
}

// benchDestinations are those of the benchmarks.
var benchDestinations = map[string][]string{"one": {inbox.DefaultDestination}, "three": {inbox.DefaultDestination, "app", "staging"}}

func BenchmarkPutTo(b *testing.B) {
	for name, destinations := range benchDestinations {
		b.Run(name, func(b *testing.B) {
			s := openBench(b)
			queuesOf(b, s, destinations...)
			b.ResetTimer()
			reportCPU(b, func() { loadTo(b, s, b.N, 64, destinations...) })
		})
	}
}

func BenchmarkPutLeaseSettle(b *testing.B) {
	for name, destinations := range benchDestinations {
		b.Run(name, func(b *testing.B) {
			s := openBench(b)
			queues := queuesOf(b, s, destinations...)
			b.ResetTimer()
			reportCPU(b, func() {
				var wg sync.WaitGroup
				for _, q := range queues {
					wg.Go(func() { takeAll(b, q, b.N) })
				}
				loadTo(b, s, b.N, 64, destinations...)
				wg.Wait()
			})
		})
	}
}

// takeAll delivers n events.
func takeAll(b *testing.B, q inbox.Queue, n int) {
	for settled := 0; settled < n; {
		leases, err := q.Lease(context.Background(), 32)
		if err == nil {
			err = q.Settle(context.Background(), inboxtest.Outcomes(inbox.Deliver, leases...)...)
		}
		if err != nil {
			b.Error(err)
			return
		}
		settled += len(leases)
	}
}

// reportCPU reports the CPU time that f takes.
func reportCPU(b *testing.B, f func()) {
	began := cpuTime()
	f()
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

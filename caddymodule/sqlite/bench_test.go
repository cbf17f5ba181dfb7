package sqlite

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

var benchBody = []byte(`{"pad":"` + strings.Repeat("x", 1100) + `"}`)

// newEvent makes an event of a task of its own.
func newEvent() *inbox.Event {
	var task [16]byte
	_, _ = rand.Read(task[:])
	id := hex.EncodeToString(task[:])
	return &inbox.Event{
		ID: inbox.NewID(id, task[:]), TaskID: id, Type: "avatar", Status: inbox.Completed,
		ReceivedAt: time.Now().UTC().Truncate(time.Microsecond), Body: benchBody,
	}
}

// openBench opens a file, new if path is empty.
func openBench(b testing.TB, path string) *store {
	b.Helper()
	if path == "" {
		path = filepath.Join(b.TempDir(), "bench.db")
	}
	s, err := open(context.Background(), options{
		path: path, maxSize: 100 << 30, policy: inbox.Policy{Keep: time.Hour, Quarantine: 10},
		log: zap.NewNop(), now: time.Now, limits: defaultLimits, schema: schema,
	})
	require.NoError(b, err)
	return s
}

// load puts n events from many goroutines.
func load(b testing.TB, s inbox.Inbox, n, goroutines int) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				if _, err := s.Put(context.Background(), newEvent()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkPut(b *testing.B) {
	for _, backlog := range []int{0, 1_000_000} {
		b.Run(fmt.Sprintf("pending=%d", backlog), func(b *testing.B) {
			s := openBench(b, "")
			load(b, s, backlog, 512)
			b.ResetTimer()
			began := cpuTime()
			load(b, s, b.N, 64)
			b.ReportMetric(float64((cpuTime()-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
			b.StopTimer()
			require.NoError(b, s.Close())
		})
	}
}

func BenchmarkPutLeaseSettle(b *testing.B) {
	s := openBench(b, "")
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
				outcomes[i] = inbox.Outcome{Lease: l, Verdict: inbox.Deliver, Attempt: inbox.Attempt{At: time.Now(), Status: 200}}
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
	require.NoError(b, s.Close())
}

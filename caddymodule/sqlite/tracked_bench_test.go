//go:build !windows

package sqlite

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func BenchmarkTasks(b *testing.B) {
	const many = 100_000
	ctx := context.Background()
	s := openWith(b, filepath.Join(b.TempDir(), "bench.db"), defaultLimits, func(o *options) { o.policy.Tasks = 2 * many })
	for n := 0; n < many; n += inbox.MaxTrack {
		trackAll(b, s, someTasks(n, inbox.MaxTrack)...)
	}
	b.Run("TrackAndUntrack1000", func(b *testing.B) {
		list := someTasks(many, inbox.MaxTrack)
		ids := make([]string, len(list))
		for i := range list {
			ids[i] = list[i].ID
		}
		reportCPU(b, func() {
			for range b.N {
				trackAll(b, s, list...)
				_, err := s.Untrack(ctx, ids...)
				require.NoError(b, err)
			}
		})
	})
	b.Run("LeaseAndSettle32", func(b *testing.B) {
		reportCPU(b, func() {
			for range b.N {
				leased, err := s.LeaseTasks(ctx, inbox.TaskWant{Max: 32, Newest: 8, Until: time.Now().Add(time.Minute)})
				require.NoError(b, err)
				require.Len(b, leased, 32)
				require.NoError(b, s.SettleTasks(ctx, leased...))
			}
		})
	})
	b.Run("Lease32", func(b *testing.B) {
		reportCPU(b, func() {
			for range b.N {
				leased, err := s.LeaseTasks(ctx, inbox.TaskWant{Max: 32, Newest: 8})
				require.NoError(b, err)
				require.Len(b, leased, 32)
			}
		})
	})
	b.Run("Page1000", func(b *testing.B) {
		reportCPU(b, func() {
			for range b.N {
				list, _, err := s.Tasks(ctx, inbox.Page{Limit: 1000, Cursor: "50000"})
				require.NoError(b, err)
				require.Len(b, list, 1000)
			}
		})
	})
	b.Run("Stats", func(b *testing.B) {
		reportCPU(b, func() {
			for range b.N {
				_, err := s.TaskStats(ctx)
				require.NoError(b, err)
			}
		})
	})
	b.Run("Open", func(b *testing.B) {
		reportCPU(b, func() {
			for range b.N {
				require.NoError(b, inWriter(s, func(t *tx) error { return new(taskNumbers).load(t.c) }))
			}
		})
	})
}

func BenchmarkPutTracked(b *testing.B) {
	for name, tracked := range map[string]int{"none": 0, "100000": 100_000} {
		b.Run("final/tracked="+name, func(b *testing.B) {
			s := openBench(b)
			for n := 0; n < tracked; n += inbox.MaxTrack {
				trackAll(b, s, someTasks(n, inbox.MaxTrack)...)
			}
			b.ResetTimer()
			reportCPU(b, func() { load(b, s, b.N, 64) })
		})
	}
	for name, at := range map[string]time.Time{"without": {}, "with": time.Now()} {
		b.Run("notice/"+name, func(b *testing.B) {
			s := openBench(b)
			b.ResetTimer()
			reportCPU(b, func() { loadNotices(b, s, b.N, 64, at) })
		})
	}
}

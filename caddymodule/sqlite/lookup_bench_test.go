//go:build !windows

package sqlite

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// BenchmarkLookUp looks up what is in an inbox with a million events of three
// destinations, of which one is down. A page is to take less than 50 ms.
func BenchmarkLookUp(b *testing.B) {
	const events = 1_000_000
	ctx := context.Background()
	s := openBench(b)
	queues := queuesOf(b, s, benchDestinations["three"]...)
	var wg sync.WaitGroup
	for _, q := range queues[:2] {
		wg.Go(func() { takeAll(b, q, events) })
	}
	loadTo(b, s, events, 256, benchDestinations["three"]...)
	wg.Wait()
	leases := inboxtest.Lease(b, queues[2], 1000)
	inboxtest.Settle(b, queues[2], inbox.GiveUp, leases...)
	began := time.Now()
	require.NoError(b, s.Close())
	s = openWith(b, s.path, defaultLimits, func(o *options) { o.maxSize = 100 << 30 })
	b.Logf("closed and opened again in %s", time.Since(began))

	b.Run("stats", func(b *testing.B) {
		for b.Loop() {
			_, err := s.Stats(ctx)
			require.NoError(b, err)
		}
	})
	b.Run("get", func(b *testing.B) {
		for b.Loop() {
			_, err := s.Get(ctx, leases[0].Event.ID)
			require.NoError(b, err)
		}
	})
	for _, prefix := range []string{leases[0].Event.ID[:4], inbox.ShortID(leases[0].Event.ID)} {
		b.Run(fmt.Sprintf("find/%d digits", len(prefix)), func(b *testing.B) {
			p, err := inbox.ParsePrefix(prefix)
			require.NoError(b, err)
			for b.Loop() {
				f, err := s.Find(ctx, p, 20)
				require.NoError(b, err)
				require.NotEmpty(b, f.Records)
			}
		})
	}
	for _, destination := range []string{"", "default", "app", "staging", "none"} {
		for _, states := range [][]inbox.State{nil, {inbox.Pending}, {inbox.Delivered}, {inbox.Superseded}, {inbox.Dead}, {inbox.Skipped}} {
			for _, oldest := range []bool{false, true} {
				b.Run(fmt.Sprintf("list/destination=%s/%v/oldest=%v", destination, states, oldest), func(b *testing.B) {
					n := 0
					for b.Loop() {
						records, _, err := s.List(ctx, inbox.Filter{Destination: destination, States: states}, inbox.Page{OldestFirst: oldest})
						require.NoError(b, err)
						n = len(records)
					}
					b.ReportMetric(float64(n), "rows")
				})
			}
		}
	}
}

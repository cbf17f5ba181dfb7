package nats

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

func BenchmarkTasks(b *testing.B) {
	const many = 100_000
	ctx := context.Background()
	url := serve(b).ClientURL()
	s := openWith(b, url, func(o *options) { o.policy.Tasks = 2 * many; o.settings.publishTimeout = 10 * time.Second })
	began := time.Now()
	for n := 0; n < many; n += inbox.MaxTrack {
		trackAll(b, s, someTasks(n, inbox.MaxTrack)...)
	}
	b.Logf("Track of 1000: %s", time.Since(began)/(many/inbox.MaxTrack))
	b.Run("LeaseAndSettle32", func(b *testing.B) {
		for b.Loop() {
			leased, err := s.LeaseTasks(ctx, inbox.TaskWant{Max: 32, Newest: 8, Until: time.Now().Add(time.Minute)})
			require.NoError(b, err)
			require.Len(b, leased, 32)
			require.NoError(b, s.SettleTasks(ctx, leased...))
		}
	})
	b.Run("Page1000", func(b *testing.B) {
		for b.Loop() {
			list, _, err := s.Tasks(ctx, inbox.Page{Limit: 1000, Cursor: "50000"})
			require.NoError(b, err)
			require.Len(b, list, 1000)
		}
	})
	b.Run("Stats", func(b *testing.B) {
		for b.Loop() {
			_, err := s.TaskStats(ctx)
			require.NoError(b, err)
		}
	})
	b.Run("Mirror", func(b *testing.B) {
		for b.Loop() {
			readMirror(b, url)
		}
	})
	for name, status := range map[string]inbox.Status{"Final": inbox.Completed, "Notice": inbox.InProgress} {
		b.Run("Put"+name, func(b *testing.B) {
			for b.Loop() {
				inboxtest.Put(b, s, inboxtest.NewEvent(inboxtest.NewEvent("", 0).ID, status))
			}
		})
	}
	b.Run("PutTracked", func(b *testing.B) {
		for b.Loop() {
			inboxtest.Put(b, s, notice(inboxtest.NewEvent("", 0).ID))
		}
	})
}

// readMirror opens an inbox and waits until it knows all tasks.
func readMirror(b *testing.B, url string) {
	b.Helper()
	s := openWith(b, url)
	on, err := s.awaitTasks(b.Context())
	require.NoError(b, err)
	require.True(b, on)
	require.NoError(b, s.Close())
}

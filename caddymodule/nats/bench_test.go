package nats

import (
	"context"
	"crypto/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// BenchmarkPut stores an event that is the first one of its task, and one that is behind
// another.
func BenchmarkPut(b *testing.B) {
	s := openWith(b, serve(b).ClientURL())
	put := func(task string, status inbox.Status) {
		_, err := s.Put(context.Background(), inboxtest.NewEvent(task, status))
		require.NoError(b, err)
	}
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			put(rand.Text(), inbox.Completed)
		}
	})
	b.Run("behind", func(b *testing.B) {
		b.ReportAllocs()
		put("task", inbox.Completed)
		for b.Loop() {
			put("task", inbox.Completed)
		}
	})
}

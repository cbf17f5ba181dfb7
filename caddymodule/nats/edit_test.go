package nats

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// A Caddy writes down what waits for a destination that no config names any more, at any
// moment: that is no reason to refuse a purge.
func TestWhatIsWrittenMeanwhileDoesNotStopAPurge(t *testing.T) {
	s := openWith(t, serve(t).ClientURL(), passive)
	ctx := t.Context()
	e := inboxtest.NewEvent("task", inbox.Completed)
	inboxtest.Put(t, s, e)
	looks := 0
	require.NoError(t, s.withWhole(ctx, e.ID, func(ctx context.Context, w *whole) error {
		if looks++; looks == 1 {
			require.NoError(t, s.home.drainEvent(ctx, w.stored))
		}
		return s.purgeHome(ctx, w.parts[0].member)
	}))
	require.Equal(t, 2, looks)
	_, err := s.Get(ctx, e.ID)
	require.ErrorIs(t, err, inbox.ErrNotFound)
}

package sqlite

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// When the process is killed, nothing acknowledged is lost, and what was
// delivered is not leased again.
func TestKill(t *testing.T) {
	for range 3 {
		path := t.TempDir() + "/inbox.db"
		c := startChild(t, "put", path)
		var lines []string
		for len(lines) < 600 {
			lines = append(lines, c.line(t))
		}
		lines = append(lines, c.kill(t)...)
		s := openWith(t, path, smallLimits)
		requireStored(t, s, lines)
		require.NoError(t, s.Close())
	}
}

// requireStored checks the events that a child printed, by look-ups and by
// leasing everything that is pending.
func requireStored(t *testing.T, s *store, lines []string) {
	t.Helper()
	want := make(map[string]inbox.State)
	for _, line := range lines {
		switch what, id, ok := strings.Cut(line, " "); {
		case !ok || len(id) != inbox.IDLength: // cut short by the kill
		case what == "delivered":
			want[id] = inbox.Delivered
		case want[id] != inbox.Delivered:
			want[id] = inbox.Pending
		}
	}
	pending := make(map[string]bool)
	stats, err := s.Stats(context.Background())
	require.NoError(t, err)
	for int64(len(pending)) < stats.Events[inbox.Pending] {
		leases, err := s.Lease(context.Background(), 100)
		require.NoError(t, err)
		for _, l := range leases {
			require.False(t, pending[l.Event.ID])
			pending[l.Event.ID] = true
		}
	}
	for id, state := range want {
		r, err := s.Get(context.Background(), id)
		require.NoError(t, err, "it was acknowledged")
		if state == inbox.Delivered {
			require.Equal(t, inbox.Delivered, r.State, id)
		}
		require.Equal(t, r.State == inbox.Pending, pending[id], id)
	}
}

// Copies of the file and its log, taken while events are put, have everything
// that was acknowledged by then.
func TestImageHoldsWhatWasAcknowledged(t *testing.T) {
	path := t.TempDir() + "/inbox.db"
	limits := defaultLimits
	limits.reserve, limits.logFrames = 4096, 1<<40 // so that the file itself does not change
	s := openWith(t, path, limits)
	var mu sync.Mutex
	var acknowledged []string
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				e := newEvent()
				if _, err := s.Put(context.Background(), e); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, e.ID)
				mu.Unlock()
			}
		})
	}
	for n := range 5 {
		var ids []string
		inboxtest.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			ids = slices.Clip(acknowledged)
			return len(ids) > 50*(n+1)
		})
		crashed := openWith(t, crashImage(t, path), limits)
		for _, id := range ids {
			_, err := crashed.Get(context.Background(), id)
			require.NoError(t, err)
		}
		require.NoError(t, crashed.Close())
	}
	close(stop)
	wg.Wait()
}

package sqlite

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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
		requireTracked(t, s, lines)
		requireStored(t, s, lines)
		require.NoError(t, s.Close())
	}
}

// requireStored checks the events that a child printed, by look-ups and by
// leasing everything that is pending.
func requireStored(t *testing.T, s *store, lines []string) {
	t.Helper()
	destinations := make(map[string]int) // by id; 0 if unknown
	delivered := make(map[string]bool)   // by destination and id
	for _, line := range lines {
		words := strings.Fields(line)
		switch {
		case len(words) != 3: // cut short by the kill
		case words[0] == "put" && words[2] == "0":
			destinations[words[1]] = 1
		case words[0] == "put":
			destinations[words[1]] = len(childDestinations)
		case slices.Contains(childDestinations, words[2]):
			delivered[words[2]+words[1]] = true
			destinations[words[1]] += 0
		}
	}
	pending := leaseAll(t, s)
	for id, n := range destinations {
		r, err := s.Get(context.Background(), id)
		require.NoError(t, err, "it was acknowledged")
		if n > 0 {
			require.Len(t, r.Deliveries, n)
		}
		require.Equal(t, inbox.Summarize(withoutLogs(r.Deliveries)), r.Progress)
		for _, d := range r.Deliveries {
			require.Equal(t, d.State == inbox.Pending, pending[d.Destination+id], id)
			if delivered[d.Destination+id] {
				require.Equal(t, inbox.Delivered, d.State, id)
			}
		}
	}
}

// requireTracked checks the tasks that a child printed: each is tracked and can be leased,
// unless its final event is stored.
func requireTracked(t *testing.T, s *store, lines []string) {
	t.Helper()
	ctx := context.Background()
	tracked := make(map[string]bool)
	for _, line := range lines {
		if words := strings.Fields(line); len(words) == 3 && (words[0] == "tracked" || words[0] == "ended") {
			tracked[words[1]] = words[0] == "tracked"
		}
	}
	require.Greater(t, len(tracked), 10)
	leased := make(map[string]bool)
	for {
		list, err := s.LeaseTasks(ctx, inbox.TaskWant{Max: 1000, Until: time.Now().Add(time.Minute)})
		require.NoError(t, err)
		if len(list) == 0 {
			break
		}
		for _, task := range list {
			leased[task.ID] = true
		}
	}
	for id, want := range tracked {
		if want && !leased[id] { // its final event may be stored though the child did not live to say so
			events, _, err := s.List(ctx, inbox.Filter{TaskID: id}, inbox.Page{})
			require.NoError(t, err)
			require.True(t, slices.ContainsFunc(events, func(r *inbox.Record) bool { return r.Event.Status.Final() }), id)
			continue
		}
		require.Equal(t, want, leased[id], id)
	}
	for id := range leased {
		events, _, err := s.List(ctx, inbox.Filter{TaskID: id}, inbox.Page{})
		require.NoError(t, err)
		require.False(t, slices.ContainsFunc(events, func(r *inbox.Record) bool { return r.Event.Status.Final() }), id)
	}
}

// leaseAll leases everything that is pending, and returns it by destination and id.
func leaseAll(t *testing.T, s *store) map[string]bool {
	t.Helper()
	pending := make(map[string]bool)
	stats, err := s.Stats(context.Background())
	require.NoError(t, err)
	for _, d := range stats.Destinations {
		q := queuesOf(t, s, d.Name)[0]
		for left := d.Deliveries[inbox.Pending]; left > 0; {
			leases, err := q.Lease(context.Background(), 100)
			require.NoError(t, err)
			for _, l := range leases {
				require.False(t, pending[d.Name+l.Event.ID])
				pending[d.Name+l.Event.ID] = true
			}
			left -= int64(len(leases))
		}
	}
	require.Len(t, stats.Destinations, len(childDestinations))
	return pending
}

func withoutLogs(deliveries []inbox.Delivery) []inbox.Delivery {
	deliveries = slices.Clone(deliveries)
	for i := range deliveries {
		deliveries[i].Log = nil
	}
	return deliveries
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

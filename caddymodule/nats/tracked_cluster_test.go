package nats

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/natstest"
)

// While two Caddys store notices and final events, the server that leads the stream of
// tasks dies: of each task that has no final event Fotor is asked, by one of them.
func TestTasksOutliveAServer(t *testing.T) {
	c := natstest.New(t, natstest.Config{Nodes: 3})
	long := func(o *options) { o.settings.publishTimeout = maxPublishTimeout }
	inboxes := []*store{clustered(t, c, long), clustered(t, c, long)}
	ctx := context.Background()
	trackAll(t, inboxes[0], inbox.Task{ID: "first", Since: time.Now()})
	const n = 40
	halfway := make(chan struct{})
	var wg sync.WaitGroup
	for i, s := range inboxes {
		wg.Go(func() {
			for k := range n {
				if k == n/2 && i == 0 {
					close(halfway)
				}
				putUntilStored(t, s, notice(fmt.Sprint(i, " ", k)))
				if k%2 == 1 {
					putUntilStored(t, inboxes[1-i], inboxtest.NewEvent(fmt.Sprint(i, " ", k), inbox.Completed))
				}
			}
		})
	}
	<-halfway
	leader, err := c.StreamLeader(ctx, "TEST_TASKS")
	require.NoError(t, err)
	require.NoError(t, c.Kill(leader))
	wg.Wait()
	want := map[string]bool{"first": true}
	for i := range inboxes {
		for k := 0; k < n; k += 2 {
			want[fmt.Sprint(i, " ", k)] = true
		}
	}
	got := map[string]bool{}
	inboxtest.Eventually(t, func() bool {
		for _, s := range inboxes {
			leased, err := s.LeaseTasks(ctx, inbox.TaskWant{Max: 20, Until: time.Now().Add(time.Hour)})
			if err != nil {
				continue // the servers may still be at it
			}
			for _, task := range leased {
				require.True(t, want[task.ID], task.ID)
				require.False(t, got[task.ID], task.ID)
				got[task.ID] = true
			}
		}
		return len(got) == len(want)
	})
}

// putUntilStored puts an event as a caller does who tries again.
func putUntilStored(t *testing.T, s *store, e *inbox.Event) {
	t.Helper()
	inboxtest.Eventually(t, func() bool {
		_, err := s.Put(context.Background(), e)
		return err == nil
	})
}

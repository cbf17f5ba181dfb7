package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"pgregory.net/rapid"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// someTasks makes tasks that are due, numbered from first on.
func someTasks(first, n int) []inbox.Task {
	list := make([]inbox.Task, n)
	for i := range list {
		list[i] = inbox.Task{ID: fmt.Sprintf("%032x", first+i), Since: time.UnixMicro(1e15).UTC(), Due: time.UnixMicro(1e15 + int64(first+i)).UTC()}
	}
	return list
}

func trackAll(t testing.TB, s *store, list ...inbox.Task) {
	t.Helper()
	added, err := s.Track(context.Background(), list...)
	require.NoError(t, err)
	require.Equal(t, len(list), added)
}

// notice makes an event in progress whose task is to be tracked.
func notice(task string) *inbox.Event {
	e := inboxtest.NewEvent(task, inbox.InProgress)
	e.Track = time.UnixMicro(1e15)
	return e
}

func waitingTasks(t testing.TB, s *store) int64 {
	t.Helper()
	stats, err := s.TaskStats(context.Background())
	require.NoError(t, err)
	return stats.Waiting
}

func TestTasksAreLeasedToOneOfSeveral(t *testing.T) {
	url := serve(t).ClientURL()
	inboxes := []*store{openWith(t, url), openWith(t, url), openWith(t, url)}
	const n = 200
	trackAll(t, inboxes[0], someTasks(0, n)...)
	for _, s := range inboxes {
		inboxtest.Eventually(t, func() bool { return waitingTasks(t, s) == n })
	}
	var mu sync.Mutex
	got := map[string]int{}
	inboxtest.Eventually(t, func() bool {
		var wg sync.WaitGroup
		for _, s := range inboxes {
			wg.Go(func() {
				list, err := s.LeaseTasks(context.Background(), inbox.TaskWant{Max: 10, Newest: 2, Until: time.Now().Add(time.Minute)})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, task := range list {
					got[task.ID]++
				}
			})
		}
		wg.Wait()
		return len(got) == n
	})
	for id, times := range got {
		require.Equal(t, 1, times, id)
	}
	// Each settles its own, and all know.
	for _, s := range inboxes {
		for h, held := range s.tracking.held {
			task := held.record.public()
			task.Ref, task.Due = int64(held.seq), time.Now().Add(time.Hour)
			require.NoError(t, s.SettleTasks(context.Background(), task))
			require.NotContains(t, s.tracking.held, h)
		}
	}
	for _, s := range inboxes {
		inboxtest.Eventually(t, func() bool {
			stats, err := s.TaskStats(context.Background())
			require.NoError(t, err)
			return stats.Due == 0 && stats.Waiting == n
		})
	}
}

func TestTasksOfOneThatDiesAreLeasedToAnother(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url), openWith(t, url)
	trackAll(t, a, someTasks(0, 3)...)
	leased, err := a.LeaseTasks(context.Background(), inbox.TaskWant{Max: 3, Until: time.Now().Add(300 * time.Millisecond)})
	require.NoError(t, err)
	require.Len(t, leased, 3)
	crash(a)
	got := 0
	inboxtest.Eventually(t, func() bool {
		list, err := b.LeaseTasks(context.Background(), inbox.TaskWant{Max: 3, Until: time.Now().Add(time.Minute)})
		require.NoError(t, err)
		got += len(list)
		return got == 3
	})
}

func TestAFinalEventEndsTheTrackingElsewhere(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url), openWith(t, url)
	ctx := context.Background()
	trackAll(t, a, someTasks(0, 1)...)
	on, err := b.awaitTasks(ctx) // as it finds the stream in its maintenance
	require.NoError(t, err)
	require.True(t, on)
	for range 50 {
		e := notice(inboxtest.NewEvent("", 0).ID)
		inboxtest.Put(t, a, e)
		inboxtest.Put(t, b, inboxtest.NewEvent(e.TaskID, inbox.Completed)) // before it may know of the task
	}
	inboxtest.Eventually(t, func() bool { return waitingTasks(t, a) == 1 && waitingTasks(t, b) == 1 })

	// The record comes after the final event was stored there.
	final := inboxtest.NewEvent("late", inbox.Completed)
	inboxtest.Put(t, b, final)
	r := a.firstRecord(&inbox.Task{ID: final.TaskID, Since: time.Now()})
	_, err = a.writeTask(ctx, hashOf(final.TaskID), &r, 0)
	require.NoError(t, err)
	inboxtest.Eventually(t, func() bool {
		_, err := a.Task(ctx, final.TaskID)
		return errors.Is(err, inbox.ErrNotFound)
	})
}

// That is what is left if a Caddy dies after it stored a final event.
func TestARecordThatWasLeftIsNotLeased(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url)
	ctx := context.Background()
	trackAll(t, s, someTasks(0, 2)...)
	id := someTasks(0, 1)[0].ID
	inboxtest.Put(t, s, inboxtest.NewEvent(id, inbox.Completed))
	s.tracking.finals = recent{} // as in a Caddy that did not store it
	r := s.firstRecord(&someTasks(0, 1)[0])
	_, seq, err := s.readTask(ctx, hashOf(id))
	require.NoError(t, err)
	_, err = s.writeTask(ctx, hashOf(id), &r, seq)
	require.NoError(t, err)
	require.EqualValues(t, 2, waitingTasks(t, s))
	leased, err := s.LeaseTasks(ctx, inbox.TaskWant{Max: 10, Newest: 5})
	require.NoError(t, err)
	require.Len(t, leased, 1)
	require.NotEqual(t, id, leased[0].ID)
	require.EqualValues(t, 1, waitingTasks(t, s))
	_, err = s.Task(ctx, id)
	require.ErrorIs(t, err, inbox.ErrNotFound)
}

func TestAnInboxWithoutTasksHasNoStreamOfThem(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url)
	ctx := context.Background()
	inboxtest.Put(t, s, inboxtest.NewEvent("task", inbox.InProgress), inboxtest.NewEvent("task", inbox.Completed))
	require.Zero(t, waitingTasks(t, s))
	_, err := admin(t, url).Stream(ctx, "TEST_TASKS")
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
	final := inboxtest.NewEvent("task", inbox.Completed)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		fresh, err := s.trackEvent(ctx, final)
		if fresh || err != nil {
			t.Error("it was tracked", err)
		}
		s.followEvent(ctx, final, fresh, nil, "")
	}))
}

func TestAStreamOfTasksThatIsLostTakesNoEventWithIt(t *testing.T) {
	url := serve(t).ClientURL()
	core, logs := observer.New(zapcore.ErrorLevel)
	s := openWith(t, url, watchful, func(o *options) { o.log = zap.New(core) })
	ctx := context.Background()
	trackAll(t, s, someTasks(0, 3)...)
	require.NoError(t, admin(t, url).DeleteStream(ctx, "TEST_TASKS"))
	events := []*inbox.Event{notice("a"), inboxtest.NewEvent(someTasks(0, 1)[0].ID, inbox.Completed), notice("b")}
	inboxtest.Put(t, s, events...)
	for _, e := range events {
		_, err := s.Get(ctx, e.ID)
		require.NoError(t, err)
	}
	inboxtest.Eventually(t, func() bool {
		return logs.FilterMessageSnippet("the stream of tracked tasks is gone").Len() > 0
	})
	inboxtest.Eventually(t, func() bool {
		added, err := s.Track(ctx, inbox.Task{ID: "c", Since: time.Now()})
		return err == nil && added == 1
	})
	_, err := s.Task(ctx, someTasks(1, 1)[0].ID)
	require.ErrorIs(t, err, inbox.ErrNotFound)
	inboxtest.Eventually(t, func() bool { return waitingTasks(t, s) <= 3 })
	inboxtest.Eventually(t, func() bool {
		leased, err := s.LeaseTasks(ctx, inbox.TaskWant{Max: 10, Until: time.Now().Add(time.Minute)})
		require.NoError(t, err)
		return slices.ContainsFunc(leased, func(task inbox.Task) bool { return task.ID == "c" })
	})
	require.NoError(t, s.health.problem())
}

// Somebody may have a stream of that name already.
func TestAStreamOfTasksOfSomebodyElseIsLeftAlone(t *testing.T) {
	url := serve(t).ClientURL()
	ctx := context.Background()
	_, err := admin(t, url).CreateStream(ctx, jetstream.StreamConfig{Name: "TEST_TASKS", Subjects: []string{"theirs"}})
	require.NoError(t, err)
	core, logs := observer.New(zapcore.ErrorLevel)
	s := afterMaintenance(t, openWith(t, url, func(o *options) { o.log = zap.New(core) }))
	require.Equal(t, 1, logs.FilterMessageSnippet("tasks cannot be tracked").Len())
	_, err = s.Track(ctx, someTasks(0, 1)...)
	require.ErrorContains(t, err, "stream TEST_TASKS is there and was not made by the gateway")
	e := notice("task")
	inboxtest.Put(t, s, e)
	_, err = s.Get(ctx, e.ID)
	require.NoError(t, err)
	require.Equal(t, []string{"theirs"}, stream(t, url, "TEST_TASKS").CachedInfo().Config.Subjects)
}

func TestAStreamOfTasksThatWasChangedIsTold(t *testing.T) {
	url := serve(t).ClientURL()
	core, logs := observer.New(zapcore.ErrorLevel)
	s := openWith(t, url, watchful, func(o *options) { o.log = zap.New(core) })
	trackAll(t, s, someTasks(0, 3)...)
	edit(t, url, "TEST_TASKS", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour })
	inboxtest.Eventually(t, func() bool { return logs.FilterMessageSnippet("tasks cannot be tracked").Len() > 0 })
	require.Contains(t, logs.All()[0].ContextMap()["error"], "nats stream edit TEST_TASKS --max-age=0s --force")
	inboxtest.Put(t, s, notice("a"))
	require.NoError(t, s.health.problem(), "events are stored all the same")
}

func TestWhatIsGoneFromTheStreamIsForgotten(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url)
	ctx := context.Background()
	trackAll(t, s, someTasks(0, 5)...)
	require.NoError(t, stream(t, url, "TEST_TASKS").Purge(ctx, jetstream.WithPurgeKeep(2)))
	leased, err := s.LeaseTasks(ctx, inbox.TaskWant{Max: 2})
	require.NoError(t, err)
	require.Empty(t, leased, "the records are looked for")
	require.EqualValues(t, 3, waitingTasks(t, s))
	s.remirror()
	inboxtest.Eventually(t, func() bool { return waitingTasks(t, s) == 2 })
	page, _, err := s.Tasks(ctx, inbox.Page{OldestFirst: true})
	require.NoError(t, err)
	require.Equal(t, someTasks(3, 2), page)
}

func TestTheMirrorHeedsTheOrderOfRecords(t *testing.T) {
	h := hashOf("task")
	at := func(due int64) *taskRecord { return &taskRecord{First: 1, Due: due} }
	var m mirror
	m.apply(h, 1, at(1), false)
	require.Zero(t, m.len(), "nothing was read yet")
	require.True(t, m.begin(time.Unix(1, 0)))
	m.apply(h, 1, at(1), true)
	m.apply(h, 3, at(3), true)
	m.apply(h, 1, at(1), false)
	m.apply(h, 2, at(2), false)
	e, ok := m.get(h)
	require.True(t, ok)
	require.EqualValues(t, 3, e.due)
	m.apply(h, 4, nil, true)
	m.apply(h, 3, at(3), false) // it was under way
	require.Zero(t, m.len())
	m.apply(h, 4, nil, false)
	require.Empty(t, m.removed)
	m.apply(h, 5, at(5), false)
	require.Equal(t, 1, m.len())
	m.apply(h, 6, nil, true)
	m.apply(h, 7, at(7), false) // it was tracked again before the empty record was read
	require.Equal(t, 1, m.len())
	require.Empty(t, m.removed)

	other := hashOf("other")
	m.apply(other, 8, at(8), false)
	require.False(t, m.begin(time.Unix(1, 0)))
	m.apply(other, 8, at(8), false)
	m.sweep()
	_, ok = m.get(h)
	require.False(t, ok, "it was not read again")
	require.Equal(t, 1, m.len())
	require.True(t, m.begin(time.Unix(2, 0)), "another stream")
	require.Zero(t, m.len())
}

// What the mirror chooses is what sorting everything chooses.
func TestTheMirrorChooses(t *testing.T) {
	now := time.UnixMicro(1000)
	rapid.Check(t, func(t *rapid.T) {
		var m mirror
		m.begin(time.Unix(1, 0))
		all := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) mirrored {
			e := mirrored{due: rapid.Int64Range(990, 1010).Draw(t, "due"), fresh: rapid.Bool().Draw(t, "fresh")}
			if rapid.Bool().Draw(t, "leased") {
				e.until = now.Add(time.Second)
			}
			return e
		}), 0, 50).Draw(t, "all")
		for i := range all {
			all[i].hash, all[i].first = hashOf(fmt.Sprint(i)), uint64(i+1)
			m.places[all[i].hash] = i
		}
		m.entries = all
		want := inbox.TaskWant{Max: rapid.IntRange(1, 10).Draw(t, "max")}
		want.Newest = rapid.IntRange(0, want.Max).Draw(t, "newest")

		sorted := slices.Clone(all)
		slices.SortFunc(sorted, func(a, b mirrored) int { return inTurn(&a, &b) })
		sorted = slices.DeleteFunc(sorted, func(e mirrored) bool { return e.due > 1000 || e.leased(now) })
		var expected []taskHash
		for _, e := range slices.Backward(sorted) {
			if e.fresh && len(expected) < want.Newest {
				expected = append(expected, e.hash)
			}
		}
		for _, e := range sorted {
			if len(expected) < want.Max && !slices.Contains(expected, e.hash) {
				expected = append(expected, e.hash)
			}
		}
		var got []taskHash
		for _, e := range m.due(want, now) {
			got = append(got, e.hash)
		}
		require.Equal(t, expected, got)
	})
}

func TestRecentFinalEvents(t *testing.T) {
	var r recent
	require.False(t, r.has(hashOf("a")))
	for i := range 3 * maxRecent {
		r.add(hashOf(fmt.Sprint(i)))
	}
	require.True(t, r.has(hashOf(fmt.Sprint(3*maxRecent-1))))
	require.False(t, r.has(hashOf("0")))
	require.LessOrEqual(t, len(r.now)+len(r.old), 2*maxRecent)
}

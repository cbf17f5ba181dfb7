package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

func TestPartsGrowWithTheNumberOfEvents(t *testing.T) {
	for events, want := range map[int64]int64{
		0: 256 << 10, 5_000_000: 256 << 10, 8 << 20: 512 << 10, 20_000_000: 1 << 20, 100_000_000: 4 << 20,
	} {
		require.Equal(t, want, defaultLimits.partEntries(events), "%d events", events)
	}
}

// allEntries are the entries of all parts.
const allEntries = `(SELECT part, task_key, seq FROM part_entries UNION ALL SELECT 0, task_key, seq FROM task_index)`

// settled waits until no part is to be merged, and no filter to be made or stored, and until
// the frozen generation is written.
func settled(t *testing.T, s *store) {
	t.Helper()
	inboxtest.Eventually(t, func() (done bool) {
		if frozen, _ := s.index.pending(); frozen {
			return false // it is written while the writer is idle
		}
		require.NoError(t, inWriter(s, func(tx *tx) error {
			done = tx.w.partsDue() == nil && !tx.w.maintenance.sweepDue(tx.w)
			return nil
		}))
		return done
	})
}

// requireParts requires that what is in memory about the parts agrees with the file. After a
// crash, the entries of a generation may have been written twice.
func requireParts(t *testing.T, s *store, crashed bool) {
	t.Helper()
	require.NoError(t, inWriter(s, func(tx *tx) error {
		w := tx.w
		var size int
		for _, p := range w.parts {
			size += p.filter.size() + p.making.size()
			require.Equal(t, p.entries, number(t, s, fmt.Sprint(`SELECT entries FROM parts WHERE n = `, p.n)))
			require.Equal(t, p.last, number(t, s, fmt.Sprint(`SELECT last_seq FROM parts WHERE n = `, p.n)))
			if !crashed {
				require.Equal(t, p.entries, number(t, s, fmt.Sprint(`SELECT count(*) FROM `, allEntries, ` WHERE part = `, p.n)))
			}
			require.LessOrEqual(t, number(t, s, fmt.Sprint(`SELECT max(seq) FROM `, allEntries, ` WHERE part = `, p.n)), p.last)
			require.NoError(t, tx.c.query(fmt.Sprint(`SELECT task_key FROM `, allEntries, ` WHERE part = `, p.n), func(row []driver.Value) error {
				require.True(t, p.mayHave(integer(row[0])))
				return nil
			}))
		}
		require.LessOrEqual(t, size, max(w.limits.filtersMost, len(w.parts)*leastFilter))
		require.EqualValues(t, len(w.parts), number(t, s, `SELECT count(*) FROM parts`))
		require.Zero(t, number(t, s, `SELECT count(*) FROM part_filters WHERE part NOT IN (SELECT n FROM parts)`))
		require.Zero(t, number(t, s, `SELECT count(*) FROM `+allEntries+` WHERE part NOT IN (SELECT n FROM parts)`))
		if !crashed {
			require.Zero(t, number(t, s, `SELECT count(*) - count(DISTINCT seq) FROM `+allEntries))
		}
		return nil
	}))
}

// requireTasksInOrder requires that the events of each task are listed in order, a page after
// the other.
func requireTasksInOrder(t *testing.T, s *store, tasks map[string][]string) {
	t.Helper()
	for task, want := range tasks {
		for _, oldestFirst := range []bool{false, true} {
			var got []string
			page := inbox.Page{Limit: 2, OldestFirst: oldestFirst}
			for {
				records, next, err := s.List(context.Background(), inbox.Filter{TaskID: task}, page)
				require.NoError(t, err)
				for _, r := range records {
					if oldestFirst {
						got = append(got, r.Event.ID)
					} else {
						got = append([]string{r.Event.ID}, got...)
					}
				}
				if page.Cursor = next; next == "" {
					break
				}
			}
			require.Equal(t, want, got)
		}
	}
}

// Parts are merged when they are many and small. Events of a task in several of them are found,
// and in order, also after a restart and a crash.
func TestPartsAreMerged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	l := smallLimits
	l.bigTask = 1000
	l.logFrames = 1 << 40 // for images of a crash
	s := openWith(t, path, l)
	tasks := make(map[string][]string)
	var events []*inbox.Event
	for n := range 300 {
		e := newEvent()
		if n%10 == 0 { // 30 tasks with one event each, and three with 90
			tasks[e.TaskID] = []string{e.ID}
		} else {
			e = inboxtest.NewEvent(fmt.Sprint("task ", n%3), inbox.InProgress)
			tasks[e.TaskID] = append(tasks[e.TaskID], e.ID)
		}
		inboxtest.Put(t, s, e)
		events = append(events, e)
	}
	check := func(s *store, crashed bool) {
		t.Helper()
		settled(t, s)
		requireParts(t, s, crashed)
		requireKnown(t, s, events)
		requireTasksInOrder(t, s, tasks)
	}
	check(s, false)
	many := number(t, s, `SELECT count(*) FROM parts`)
	require.Greater(t, many, int64(2*l.mostParts))
	require.Equal(t, number(t, s, `SELECT max(n) FROM parts`), many, "none was merged while they are as large as usual")
	require.NoError(t, s.Close())

	l.leastPart = 1000
	s = openWith(t, path, l)
	var images []string
	for n := many; n > int64(l.mostParts); n = number(t, s, `SELECT count(*) FROM parts`) {
		if len(images) == 0 || n%4 == 0 {
			images = append(images, crashImage(t, path))
		}
		require.NoError(t, inWriter(s, func(*tx) error { return nil })) // a step of the merge may be taken after it
	}
	require.NotEmpty(t, images)
	check(s, false)
	for _, image := range []string{images[0], images[len(images)/2], images[len(images)-1]} {
		check(openWith(t, image, l), true)
	}
	require.NoError(t, s.Close())
	check(openWith(t, path, l), false)
}

// The filter of a part into which others are merged again and again has their keys, though the
// events are gone. It is made anew when they are too many.
func TestFilterOfAMergedPartIsMadeAnew(t *testing.T) {
	s := openWith(t, filepath.Join(t.TempDir(), "inbox.db"), smallLimits, func(o *options) { o.limits.leastPart = 32 })
	filled := func() (most float64) {
		require.NoError(t, inWriter(s, func(tx *tx) error {
			for _, p := range tx.w.parts {
				if p.making == nil {
					most = max(most, float64(p.filter.keys)/float64(p.filter.size()))
				}
			}
			return nil
		}))
		return most
	}
	for range 60 {
		events := newEvents(40)
		inboxtest.Put(t, s, events...)
		for _, e := range events[2:] {
			require.NoError(t, s.Purge(context.Background(), e.ID, ""))
		}
	}
	settled(t, s)
	require.Less(t, filled(), 3.0, "keys for each byte")
	requireParts(t, s, false)
}

// The parts whose events are gone are removed, and of the others what is stale.
func TestPartsWithoutEventsAreRemoved(t *testing.T) {
	s := openWith(t, filepath.Join(t.TempDir(), "inbox.db"), smallLimits, func(o *options) { o.limits.mostParts = 100 })
	events := newEvents(120)
	inboxtest.Put(t, s, events...)
	settled(t, s)
	before := number(t, s, `SELECT count(*) FROM parts`)
	require.Greater(t, before, int64(5))
	for _, e := range events[:100] {
		require.NoError(t, s.Purge(context.Background(), e.ID, ""))
	}
	settled(t, s)
	require.Less(t, number(t, s, `SELECT count(*) FROM parts`), before-3)
	requireParts(t, s, false)
	requireKnown(t, s, events[100:])
	for _, e := range events[100:] {
		require.NoError(t, s.Purge(context.Background(), e.ID, ""))
	}
	settled(t, s)
	require.LessOrEqual(t, number(t, s, `SELECT count(*) FROM parts`), int64(2), "the newest part stays")
	requireParts(t, s, false)
	inboxtest.Put(t, s, events...)
	requireKnown(t, s, events)
}

// One event in each part stays. Without merging, there would be more parts with each.
func TestPartsWithFewEventsAreMerged(t *testing.T) {
	s := openWith(t, filepath.Join(t.TempDir(), "inbox.db"), smallLimits)
	var rest []*inbox.Event
	for range 20 {
		events := newEvents(20)
		inboxtest.Put(t, s, events...)
		rest = append(rest, events[0])
		for _, e := range events[1:] {
			require.NoError(t, s.Purge(context.Background(), e.ID, ""))
		}
	}
	settled(t, s)
	requireParts(t, s, false)
	require.LessOrEqual(t, number(t, s, `SELECT count(*) FROM parts`), int64(8))
	requireKnown(t, s, rest)
}

// The filter of a part to which nothing is added any more is stored, and read again.
func TestFiltersAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	s := openWith(t, path, smallLimits)
	events := newEvents(100)
	inboxtest.Put(t, s, events...)
	settled(t, s)
	kept := number(t, s, `SELECT count(*) FROM parts WHERE words > 0`)
	require.Equal(t, number(t, s, `SELECT count(*) - 1 FROM parts`), kept)
	image := crashImage(t, path)
	lost := crashImage(t, path)
	s = openWith(t, image, smallLimits, func(o *options) { o.limits.fillStep = 0 }) // no filter gets filled
	require.NoError(t, inWriter(s, func(tx *tx) error {
		for i, p := range tx.w.parts {
			require.Equal(t, i == len(tx.w.parts)-1, p.filter == nil)
		}
		return nil
	}))
	requireKnown(t, s, events)

	c, err := connect(context.Background(), lost)
	require.NoError(t, err)
	require.NoError(t, c.exec(`UPDATE part_filters SET bytes = zeroblob(24)`))
	require.NoError(t, c.close())
	core, logs := observer.New(zap.WarnLevel)
	s = openWith(t, lost, smallLimits, func(o *options) { o.log = zap.New(core) })
	require.EqualValues(t, kept, logs.FilterMessage("a filter of the index is not as it was written; it is made again").Len())
	requireKnown(t, s, events)
	settled(t, s)
	requireParts(t, s, true)
	require.Positive(t, number(t, s, `SELECT min(length(bytes)) FROM part_filters`)-24, "they are stored anew")
}

// Together, the filters take no more memory than they may.
func TestFiltersAreBounded(t *testing.T) {
	var ps parts
	l := limits{filtersMost: 1 << 12}
	for n := range 30 {
		p := &part{n: int64(n), filter: newBloomFilter(1000, &l)}
		p.add([]entry{{key: spread(n)}})
		ps = append(ps, p)
		ps.bound(l.filtersMost)
		size := 0
		for _, p := range ps {
			size += p.filter.size()
			require.True(t, p.mayHave(spread(int(p.n))))
		}
		require.LessOrEqual(t, size, l.filtersMost)
	}
	require.Less(t, ps[0].filter.size(), 2048)
	for _, p := range ps {
		require.LessOrEqual(t, ps.last().filter.size(), 2*p.filter.size(), "a new one is not made smaller than the others")
		require.LessOrEqual(t, p.filter.size(), 2*ps.last().filter.size())
	}
	ps.bound(0)
	for _, p := range ps {
		require.Equal(t, leastFilter, p.filter.size())
	}
}

// A part that got many entries of another one gets a larger filter. Meanwhile the one before
// serves, and of the first what there is of it.
func TestFilterServesWhileAnotherIsMade(t *testing.T) {
	s := openWith(t, filepath.Join(t.TempDir(), "inbox.db"), smallLimits, func(o *options) {
		o.limits.leastPart, o.limits.filtersMost = 1<<10, 1<<20
	})
	inboxtest.Put(t, s, newEvents(100)...)
	settled(t, s)
	require.NoError(t, inWriter(s, func(tx *tx) error {
		w := tx.w
		p := *w.parts.last()
		var keys []int64
		require.NoError(t, tx.c.query(`SELECT task_key FROM `+allEntries+` ORDER BY task_key`, func(row []driver.Value) error {
			keys = append(keys, integer(row[0]))
			return nil
		}))
		require.Greater(t, len(keys), 50)
		unknown := func() (n int) { // of keys that the part has not, those that it may have
			for i := range keys {
				if p.mayHave(spread(i + 1)) {
					n++
				}
			}
			return n
		}
		fill := func() {
			for p.making != nil {
				require.NoError(t, p.fill(w))
				for _, k := range keys {
					require.True(t, p.mayHave(k))
				}
			}
		}
		p.filter = nil
		p.makeFilter(100, &w.limits)
		require.Equal(t, len(keys), unknown(), "nothing is known yet")
		require.NoError(t, p.fill(w))
		require.Less(t, unknown(), len(keys))
		fill()
		require.Less(t, unknown(), len(keys)/4)
		small := p.filter.size()
		p.makeFilter(1000, &w.limits)
		require.NoError(t, p.fill(w))
		require.NotNil(t, p.making)
		require.Less(t, unknown(), len(keys)/4, "the filter before serves")
		added := entry{spread(1 << 20), 1}
		p.add([]entry{added})
		fill()
		require.True(t, p.mayHave(added.key))
		require.Greater(t, p.filter.size(), small)
		return nil
	}))
}

// The index of an older release is the first part: read, swept, and not written any more.
func TestIndexOfAnOlderReleaseIsTheFirstPart(t *testing.T) {
	ctx := context.Background()
	rows := []string{`UPDATE meta SET next_seq = 11, fresh = 10, events_pending = 10, indexed_seq = 8`}
	var ids []string
	for n := range 10 {
		id := inbox.NewID(fmt.Sprint("task ", n), nil)
		ids = append(ids, id)
		rows = append(rows, fmt.Sprintf(`INSERT INTO events VALUES (%d, x'%s', 'task %d', 'avatar', 1, 1763899200000000, x'7b7d')`, n+1, id, n))
		if n < 9 { // the last one of a generation that was not written as a whole
			rows = append(rows, fmt.Sprintf(`INSERT INTO task_index VALUES (%d, %d)`, keyOf(mustID(id)), n+1))
		}
	}
	s := openWith(t, fileOfVersion(t, len(schema)-1, rows...), smallLimits)
	known := func(want int) {
		t.Helper()
		for n, id := range ids {
			r, err := s.Get(ctx, id)
			if n < 10-want {
				require.ErrorIs(t, err, inbox.ErrNotFound)
				continue
			}
			require.NoError(t, err)
			duplicateOf, err := s.Put(ctx, r.Event)
			require.NoError(t, err)
			require.Equal(t, id, duplicateOf)
		}
	}
	known(10)
	events := newEvents(60)
	inboxtest.Put(t, s, events...)
	known(10)
	settled(t, s)
	requireKnown(t, s, events)
	requireParts(t, s, true)
	require.EqualValues(t, 9, number(t, s, `SELECT count(*) FROM task_index`))
	for _, id := range ids[:7] {
		require.NoError(t, s.Purge(ctx, id, ""))
	}
	for _, e := range events[:50] {
		require.NoError(t, s.Purge(ctx, e.ID, ""))
	}
	settled(t, s)
	known(3)
	require.EqualValues(t, 2, number(t, s, `SELECT count(*) FROM task_index`))
	for _, id := range ids[7:] {
		require.NoError(t, s.Purge(ctx, id, ""))
	}
	inboxtest.Put(t, s, newEvents(3)...)
	for _, e := range events[50:] {
		require.NoError(t, s.Purge(ctx, e.ID, ""))
	}
	inboxtest.Eventually(t, func() bool { return number(t, s, `SELECT count(*) FROM parts WHERE n = 0`) == 0 })
	require.Zero(t, number(t, s, `SELECT count(*) FROM task_index`))
	known(0)
}

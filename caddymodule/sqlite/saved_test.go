package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// closeIndexed closes an inbox with 200 events once its filter is whole, and returns them.
func closeIndexed(t *testing.T, path string, change func(*store)) []*inbox.Event {
	t.Helper()
	s := openWith(t, path, smallLimits)
	events := newEvents(200)
	inboxtest.Put(t, s, events...)
	inboxtest.Eventually(t, func() (ready bool) {
		require.NoError(t, inWriter(s, func(tx *tx) error {
			ready = tx.w.maintenance.bloom.ready
			return nil
		}))
		return ready
	})
	for len(s.index.numbers()) == 0 { // some are to be in memory
		more := newEvents(1)
		inboxtest.Put(t, s, more...)
		events = append(events, more...)
		inboxtest.Eventually(t, func() bool { frozen, _ := s.index.pending(); return !frozen })
	}
	change(s)
	require.NoError(t, s.Close())
	return events
}

func savedRows(t *testing.T, path string) (n int64) {
	t.Helper()
	c, err := connect(context.Background(), path)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.close()) }()
	n, err = c.number(`SELECT count(*) FROM saved`)
	require.NoError(t, err)
	return n
}

// requireKnown requires that all events are found and that none is stored again.
func requireKnown(t *testing.T, s *store, events []*inbox.Event) {
	t.Helper()
	for _, e := range events {
		duplicateOf, err := s.Put(context.Background(), e)
		require.NoError(t, err)
		require.NotEmpty(t, duplicateOf)
		_, err = s.Get(context.Background(), e.ID)
		require.NoError(t, err)
	}
}

func TestIndexIsSavedWhenTheInboxIsClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	var inMemory []uint64
	events := closeIndexed(t, path, func(s *store) { inMemory = s.index.numbers() })
	require.EqualValues(t, 2, savedRows(t, path))

	s := openWith(t, path, smallLimits)
	require.NoError(t, inWriter(s, func(tx *tx) error {
		require.NotNil(t, tx.w.maintenance.bloom.whole, "it need not be filled again")
		require.Equal(t, inMemory, s.index.numbers())
		return nil
	}))
	require.Zero(t, number(t, s, `SELECT count(*) FROM saved`), "it is valid only until something is written")
	requireKnown(t, s, events)
	more := newEvents(50)
	inboxtest.Put(t, s, more...)
	crashed := openWith(t, crashImage(t, path), smallLimits)
	requireKnown(t, crashed, append(events, more...))
}

// The log is not copied into the file, so that a copy of both is what a crash leaves.
func TestWhatWasSavedIsGoneAfterACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	events := closeIndexed(t, path, func(*store) {})
	l := smallLimits
	l.logFrames = 1 << 40
	openWith(t, path, l)
	image := crashImage(t, path)
	require.Zero(t, savedRows(t, image))
	requireKnown(t, openWith(t, image, smallLimits), events)
}

func TestIndexIsNotSavedInVain(t *testing.T) {
	for name, change := range map[string]func(*store){
		"few keys": func(s *store) { s.limits.savedKeys = 1 << 20 },
		"no room":  func(s *store) { s.maxSize.Store(1) },
		"broken":   func(s *store) { s.noteLoss(false, fmt.Errorf("the file is gone")) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "inbox.db")
			events := closeIndexed(t, path, change)
			require.Zero(t, savedRows(t, path))
			requireKnown(t, openWith(t, path, smallLimits), events)
		})
	}
}

func TestWhatIsSavedWronglyIsMadeAgain(t *testing.T) {
	for name, statement := range map[string]string{
		"words":   `UPDATE saved SET bytes = zeroblob(24) WHERE kind = 0`,
		"entries": `UPDATE saved SET bytes = zeroblob(24) WHERE kind = 1`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "inbox.db")
			events := closeIndexed(t, path, func(*store) {})
			c, err := connect(context.Background(), path)
			require.NoError(t, err)
			require.NoError(t, c.exec(statement))
			require.NoError(t, c.close())
			core, logs := observer.New(zap.WarnLevel)
			s := openWith(t, path, smallLimits, func(o *options) { o.log = zap.New(core) })
			require.Equal(t, 1, logs.FilterMessage("the index that was saved is not as it was written; it is made again").Len())
			requireKnown(t, s, events)
		})
	}
}

// While a filter is filled, the one before serves, and of the first what there is of it.
func TestFilterServesWhileItIsFilled(t *testing.T) {
	s := openWith(t, filepath.Join(t.TempDir(), "inbox.db"), smallLimits)
	inboxtest.Put(t, s, newEvents(100)...)
	inboxtest.Eventually(t, func() bool { frozen, _ := s.index.pending(); return !frozen })
	require.NoError(t, inWriter(s, func(tx *tx) error {
		w := tx.w
		var keys []int64
		require.NoError(t, tx.c.query(`SELECT task_key FROM task_index ORDER BY task_key`, func(row []driver.Value) error {
			keys = append(keys, integer(row[0]))
			return nil
		}))
		require.Greater(t, len(keys), 50)
		var b bloomBuild
		unknown := func() (n int) { // of keys that the table has not, those that it may have
			for _, k := range keys {
				if b.mayHave(k * 0x9e3779b97f4a7c1) {
					n++
				}
			}
			return n
		}
		has := func() {
			for _, k := range keys {
				require.True(t, b.mayHave(k))
			}
		}
		require.Equal(t, len(keys), unknown(), "nothing is known yet")
		for !b.ready {
			require.NoError(t, b.step(w))
			has()
			if b.after > keys[len(keys)/2] && !b.ready {
				require.Less(t, unknown(), len(keys)*3/4)
			}
		}
		require.Less(t, unknown(), len(keys)/4)
		b.again()
		require.NoError(t, b.step(w))
		require.False(t, b.ready)
		require.Less(t, unknown(), len(keys)/4, "the filter before serves")
		added := []entry{{math.MaxInt64, 1}}
		b.add(added, &w.limits)
		keys = append(keys, added[0].key)
		has()
		for !b.ready {
			require.NoError(t, b.step(w))
			has()
		}
		for b.ready {
			b.add(added, &w.limits)
		}
		require.Greater(t, b.whole.keys, int64(b.whole.size()), "only one that has become too small is filled again")
		small := b.whole.size()
		keys = keys[:len(keys)-1] // the added one is not in the table
		for !b.ready {
			require.NoError(t, b.step(w))
			has()
		}
		require.Greater(t, b.whole.size(), small)
		return nil
	}))
}

func TestGenerationsGrowWithTheTable(t *testing.T) {
	x := newTaskIndex(10)
	for table, want := range map[int64]int{0: 10, 400: 10, 800: 20, 1 << 40: 40} {
		x.fit(table)
		require.Equal(t, want, x.limit, "%d events", table)
	}
	x.fit(1 << 40)
	for seq := range int64(40) {
		require.False(t, x.isFull())
		x.add(entry{seq, seq})
	}
	frozen, gathered := x.pending()
	require.True(t, frozen)
	require.Zero(t, gathered)
	for seq := range int64(maxGathered*40 + 1) {
		require.False(t, x.isFull())
		x.add(entry{seq, 40 + seq})
	}
	require.True(t, x.isFull())
}

func TestALargeTableGetsLargeGenerations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	l := smallLimits
	l.batch, l.queue = 64, 64
	s := openWith(t, path, l)
	limit := func(s *store) int {
		s.index.mu.RLock()
		defer s.index.mu.RUnlock()
		return s.index.limit
	}
	require.Equal(t, l.indexEntries, limit(s))
	load(t, s, 2*indexShare*l.indexEntries, 64)
	inboxtest.Eventually(t, func() bool { return limit(s) > l.indexEntries })
	require.NoError(t, s.Close())
	require.Equal(t, 2*l.indexEntries, limit(openWith(t, path, l)))
}

package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// closeIndexed closes an inbox with 200 events once its filters are whole, and returns them.
func closeIndexed(t *testing.T, path string, change func(*store)) []*inbox.Event {
	t.Helper()
	s := openWith(t, path, smallLimits)
	events := newEvents(200)
	inboxtest.Put(t, s, events...)
	inboxtest.Eventually(t, func() (ready bool) {
		require.NoError(t, inWriter(s, func(tx *tx) error {
			ready = tx.w.partsDue() == nil
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
		for _, p := range tx.w.parts {
			require.NotNil(t, p.filter, "it need not be made again")
		}
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
		"few events": func(s *store) { s.limits.savedEvents = 1 << 20 },
		"no room":    func(s *store) { s.maxSize.Store(1) },
		"broken":     func(s *store) { s.noteLoss(false, fmt.Errorf("the file is gone"), saveFirst) },
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

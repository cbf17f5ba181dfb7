package sqlite

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func requireHold(t *testing.T, s *store, want inbox.Hold) {
	t.Helper()
	got, err := s.Hold(context.Background())
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// longHold returns a hold of the largest size.
func longHold(reason string) inbox.Hold {
	at := time.Date(2026, 11, 25, 9, 30, 0, 123456000, time.UTC)
	return inbox.Hold{Since: at, Until: at.Add(time.Hour), Ended: at.Add(time.Minute), Reason: strings.Repeat(reason, inbox.MaxReason)}
}

// Deliveries can be held and resumed when there is no room for events.
func TestHoldNeedsNoRoom(t *testing.T) {
	for name, full := range map[string]func(t *testing.T) *store{
		"the inbox is full": func(t *testing.T) *store {
			s := openTest(t, func(o *options) { o.maxSize = 1 << 20 })
			return s
		},
		"the disk is full": func(t *testing.T) *store {
			s := openTest(t)
			load(t, s, 30, 4)
			limitPages(t, s, "1") // no more than there are
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			s := full(t)
			for _, h := range []inbox.Hold{longHold("x"), longHold("y"), {}, longHold("z")} {
				fill(t, s)
				require.NoError(t, s.SetHold(ctx, h))
				requireHold(t, s, h)
			}
			require.FileExists(t, s.path+reserveSuffix, "it did not take the reserve")
			require.NoError(t, s.Close())
			requireHold(t, openWith(t, s.path, smallLimits), longHold("z"))
		})
	}
}

// A hold is stored although an event in the same batch finds no room.
func TestHoldBesideAnEventWithoutRoom(t *testing.T) {
	ctx := context.Background()
	s := openTest(t)
	limitPages(t, s, "1")
	fill(t, s)
	release := holdWriter(t, s, 4)
	wait := putAll(s, newEvents(3))
	done := make(chan error, 1)
	go func() { done <- s.SetHold(ctx, longHold("x")) }()
	release()
	require.NoError(t, <-done)
	for _, err := range wait() {
		require.ErrorIs(t, err, inbox.ErrFull)
	}
	requireHold(t, s, longHold("x"))
}

// A hold is visible only once it is on the disk.
func TestHoldIsKnownOnceItIsCommitted(t *testing.T) {
	s := openTest(t)
	before := longHold("x")
	require.NoError(t, s.SetHold(context.Background(), before))
	apply := func(tx *tx) error {
		err := (&setHold{queue: s.usual, hold: longHold("y")}).apply(tx)
		requireHold(t, s, before)
		return err
	}
	require.Error(t, inWriter(s, func(tx *tx) error {
		if err := apply(tx); err != nil {
			return err
		}
		return tx.c.exec(`INSERT INTO attempts VALUES (NULL, 1, 1, 1, 1, '')`)
	}))
	requireHold(t, s, before)
	require.NoError(t, inWriter(s, func(*tx) error { return nil }))
	requireHold(t, s, before)
	require.NoError(t, inWriter(s, apply))
	requireHold(t, s, longHold("y"))
}

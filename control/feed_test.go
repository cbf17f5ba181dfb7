package control_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

func publish(f *control.Feed, from, to int) {
	for i := from; i <= to; i++ {
		f.Publish(control.Notice{Kind: control.Accepted, ID: fmt.Sprint(i)})
	}
}

// next returns the notices that are there, without waiting.
func next(t *testing.T, fo *control.Follower, most int) []control.Entry {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	entries, err := fo.Next(ctx, nil, most)
	if len(entries) > 0 {
		require.NoError(t, err)
	}
	return entries
}

func follow(t *testing.T, f *control.Feed, after string) *control.Follower {
	t.Helper()
	fo, err := f.Follow(after)
	require.NoError(t, err)
	t.Cleanup(fo.Close)
	return fo
}

func requireIDs(t *testing.T, entries []control.Entry, from, to int) {
	t.Helper()
	require.Len(t, entries, to-from+1)
	for i, e := range entries {
		require.Equal(t, fmt.Sprint(from+i), e.Notice.ID)
	}
}

func TestFollowerIsToldWhatComes(t *testing.T) {
	f := control.NewFeed("default")
	publish(f, 1, 3)
	fo := follow(t, f, "")
	require.Empty(t, next(t, fo, 10), "what was before is not told")
	publish(f, 4, 9)
	entries := next(t, fo, 4)
	requireIDs(t, entries, 4, 7)
	require.Equal(t, "default", entries[0].Handler)
	require.False(t, entries[0].At.IsZero())
	requireIDs(t, next(t, fo, 4), 8, 9)
}

func TestFollowerGoesOnAfterTheLastID(t *testing.T) {
	f := control.NewFeed("default")
	fo := follow(t, f, "")
	publish(f, 1, 9)
	entries := next(t, fo, 4)
	requireIDs(t, next(t, follow(t, f, entries[3].ID), 100), 5, 9)
}

func TestFollowerIsToldOfAGap(t *testing.T) {
	f := control.NewFeed("default")
	fo := follow(t, f, "")
	publish(f, 1, control.FeedLength+7)
	entries := next(t, fo, 3)
	require.Equal(t, control.Gap, entries[0].Kind)
	require.EqualValues(t, 7, entries[0].Missed)
	requireIDs(t, entries[1:], 8, 9)
	requireIDs(t, next(t, fo, 2), 10, 11)

	// following after a gap works as after any notice
	requireIDs(t, next(t, follow(t, f, entries[0].ID), 1), 8, 8)
}

func TestFollowerIsToldOfARestart(t *testing.T) {
	before, after := control.NewFeed("default"), control.NewFeed("default")
	fo := follow(t, before, "")
	publish(before, 1, 1)
	id := next(t, fo, 1)[0].ID

	fo = follow(t, after, id)
	entries := next(t, fo, 9)
	require.Len(t, entries, 1)
	require.Equal(t, control.Gap, entries[0].Kind)
	require.EqualValues(t, -1, entries[0].Missed)
	publish(after, 1, 2)
	requireIDs(t, next(t, fo, 9), 1, 2)

	// notices from before the gap was noticed come as well
	fo = follow(t, after, entries[0].ID)
	requireIDs(t, next(t, fo, 9), 1, 2)
}

func TestFollowerRefusesWhatIsNoID(t *testing.T) {
	f := control.NewFeed("default")
	for _, id := range []string{"-", "1", "x-", "-1", "x--1", "x-1x", "x-99999999999999999999", strings.Repeat("x", 14) + "-1"} {
		_, err := f.Follow(id)
		require.ErrorContains(t, err, "is no id of a notice", id)
	}
}

func TestFollowersAreBounded(t *testing.T) {
	f := control.NewFeed("default")
	first := follow(t, f, "")
	for range control.MaxFollowers - 1 {
		follow(t, f, "")
	}
	_, err := f.Follow("")
	require.ErrorIs(t, err, control.ErrTooManyFollowers)
	first.Close()
	follow(t, f, "")
}

func TestFollowerWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := control.NewFeed("default")
		fo := follow(t, f, "")
		time.AfterFunc(time.Minute, func() { publish(f, 1, 1) })
		began := time.Now()
		entries, err := fo.Next(t.Context(), nil, 10)
		require.NoError(t, err)
		requireIDs(t, entries, 1, 1)
		require.Equal(t, time.Minute, time.Since(began))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = fo.Next(ctx, nil, 10)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// However much has happened meanwhile, it is told once.
func TestFollowerIsToldThatSomethingHappened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := control.NewFeed("default")
		fo := follow(t, f, "")
		time.AfterFunc(time.Minute, func() { publish(f, 1, 1) })
		began := time.Now()
		require.NoError(t, fo.Wait(t.Context()))
		require.Equal(t, time.Minute, time.Since(began))
		publish(f, 1, control.FeedLength*2)
		require.NoError(t, fo.Wait(t.Context()))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, fo.Wait(ctx), context.DeadlineExceeded)
		publish(f, 1, 1)
		require.NoError(t, fo.Wait(t.Context()))
		publish(f, 2, 2)
		f.Close()
		require.NoError(t, fo.Wait(t.Context()))
		require.ErrorIs(t, fo.Wait(t.Context()), control.ErrFeedClosed)
	})
}

func TestClosedFeedIsToldToItsEnd(t *testing.T) {
	f := control.NewFeed("default")
	fo := follow(t, f, "")
	publish(f, 1, 2)
	f.Close()
	publish(f, 3, 3)
	requireIDs(t, next(t, fo, 10), 1, 2)
	_, err := fo.Next(t.Context(), nil, 10)
	require.ErrorIs(t, err, control.ErrFeedClosed)
	_, err = f.Follow("")
	require.ErrorIs(t, err, control.ErrFeedClosed)
}

func TestLongTextsAreCut(t *testing.T) {
	f := control.NewFeed("default")
	fo := follow(t, f, "")
	long := strings.Repeat("é", 1000)
	f.Publish(control.Notice{TaskID: long, Type: long, Reason: long})
	n := next(t, fo, 1)[0]
	for _, text := range []string{n.TaskID, n.Type, n.Reason} {
		require.Equal(t, strings.Repeat("é", 128)+"…", text)
	}
}

// However concurrent publishers interleave, each follower sees every notice once, in the
// same order, or how many it has missed.
func TestFollowersMissNothingUnnoticed(t *testing.T) {
	f := control.NewFeed("default")
	const publishers, each = 8, 5000
	var wg sync.WaitGroup
	for range 4 {
		fo := follow(t, f, "")
		wg.Go(func() {
			var seen int64
			for seen < publishers*each {
				entries, err := fo.Next(t.Context(), nil, 100)
				if err != nil {
					t.Errorf("after %d notices: %v", seen, err)
					return
				}
				for _, e := range entries {
					if e.Kind == control.Gap {
						seen += e.Missed
					} else {
						seen++
					}
				}
			}
			if seen != publishers*each {
				t.Errorf("%d notices; expected %d", seen, publishers*each)
			}
		})
	}
	for range publishers {
		wg.Go(func() { publish(f, 1, each) })
	}
	wg.Wait()
}

// A follower that goes on at the position of an earlier one misses nothing, although that
// one got no notice.
func TestFollowFromAPosition(t *testing.T) {
	f := control.NewFeed("default")
	f.Publish(control.Notice{Kind: control.Accepted, ID: "1"})
	first, err := f.Follow("")
	require.NoError(t, err)
	position := first.Position()
	first.Close()
	f.Publish(control.Notice{Kind: control.Accepted, ID: "2"})
	second, err := f.Follow(position)
	require.NoError(t, err)
	entries, err := second.Next(t.Context(), nil, 10)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, "2", entries[0].Notice.ID)
	require.Equal(t, entries[0].ID, second.Position())
}

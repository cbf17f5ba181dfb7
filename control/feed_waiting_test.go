package control

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// Publish has to do only with followers that wait, each of which is among them once.
func TestOnlyFollowersThatWaitAreWoken(t *testing.T) {
	f := NewFeed("default")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var all []*Follower
	for range 3 {
		fo, err := f.Follow("")
		require.NoError(t, err)
		all = append(all, fo)
	}
	require.Empty(t, f.waiting, "they have not asked")
	for range 2 {
		_, err := all[0].Next(ended, nil, 1)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, all[1].Wait(ended), context.Canceled)
	}
	require.Equal(t, []*Follower{all[0], all[1]}, f.waiting)

	f.Publish(Notice{})
	require.Empty(t, f.waiting)
	for i, fo := range all {
		require.Len(t, fo.wake, map[bool]int{true: 1}[i < 2])
	}
	require.NoError(t, all[1].Wait(ended), "there is something")
	require.ErrorIs(t, all[1].Wait(ended), context.Canceled)
	require.Equal(t, []*Follower{all[1]}, f.waiting)
	all[1].Close()
	require.Empty(t, f.waiting)
}

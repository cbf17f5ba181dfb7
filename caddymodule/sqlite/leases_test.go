package sqlite

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func hold(seq int64) *heldLease {
	return &heldLease{lease: &inbox.Lease{Ref: seq, Event: &inbox.Event{}}, fresh: true}
}

func seqs(leases []*inbox.Lease) (list []int64) {
	for _, l := range leases {
		list = append(list, l.Ref)
	}
	return list
}

func settledSet(list ...int64) map[int64]struct{} {
	m := make(map[int64]struct{})
	for _, seq := range list {
		m[seq] = struct{}{}
	}
	return m
}

func TestRevokedEventIsNotLeasedAndLookedAtAgain(t *testing.T) {
	l := newLeases(1)
	l.beginScan()
	require.True(t, l.revoke(2))
	require.Equal(t, []int64{1, 3}, seqs(l.endScan([]*heldLease{hold(1), hold(2), hold(3)}, 4)))
	require.EqualValues(t, 2, l.beginScan(), "the cursor must not pass the event")
	require.True(t, l.endBatch(nil))
	// The scan began before the batch ended, so what it read may be outdated.
	require.Empty(t, l.endScan([]*heldLease{hold(2), hold(3)}, 4))
	require.EqualValues(t, 2, l.beginScan())
	require.Equal(t, []int64{2}, seqs(l.endScan([]*heldLease{hold(2), hold(3)}, 4)))
	require.EqualValues(t, 4, l.beginScan())
}

func TestLeasedEventCannotBeRevoked(t *testing.T) {
	l := newLeases(1)
	l.beginScan()
	l.endScan([]*heldLease{hold(1)}, 2)
	require.False(t, l.revoke(1))
	l.endBatch(settledSet(1))
	require.True(t, l.revoke(1))
}

func TestEventSettledDuringAScanIsNotLeasedByIt(t *testing.T) {
	l := newLeases(1)
	l.beginScan()
	granted := l.endScan([]*heldLease{hold(1)}, 2)
	l.beginScan()
	l.endBatch(settledSet(1))
	require.Nil(t, l.get(granted[0]))
	again := hold(1)
	again.fresh = false
	require.Empty(t, l.endScan([]*heldLease{again}, 2), "it was read before it was settled")
	l.beginScan()
	require.Len(t, l.endScan([]*heldLease{again}, 2), 1)
	require.Nil(t, l.get(granted[0]), "the old lease is not the new one")
	require.NotNil(t, l.get(again.lease))
}

func TestLowIsBeforeEveryFreshEvent(t *testing.T) {
	l := newLeases(1)
	l.beginScan()
	l.endScan([]*heldLease{hold(4), hold(7)}, 9)
	require.EqualValues(t, 4, l.low(nil))
	require.EqualValues(t, 7, l.low(settledSet(4)))
	require.EqualValues(t, 9, l.low(settledSet(4, 7)))
	require.Equal(t, []int64{5}, l.unleased([]int64{4, 5, 7}))
	require.Equal(t, 2, l.count())
}

package sqlite

import (
	"bytes"
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// A probe fails for the reasons for which events are refused.
func TestProbeOfAFullInbox(t *testing.T) {
	ctx := context.Background()
	s := openTest(t, func(o *options) { o.maxSize = 2 << 20 })
	require.NoError(t, s.Probe(ctx))
	n := fill(t, s)
	require.ErrorIs(t, s.Probe(ctx), inbox.ErrFull)
	deliver(t, s, n)
	inboxtest.Eventually(t, func() bool { return s.Probe(ctx) == nil }) // delivered events make room
}

// A probe writes to the disk, also if nothing else was ever stored.
func TestProbeWrites(t *testing.T) {
	ctx := context.Background()
	s := openTest(t)
	log := func() []byte {
		b, err := os.ReadFile(s.path + walSuffix)
		require.NoError(t, err)
		return b
	}
	for range 3 {
		before := log()
		require.NoError(t, s.Probe(ctx))
		require.False(t, bytes.Equal(before, log()))
	}
}

func TestProbeOfARemovedFile(t *testing.T) {
	ctx := context.Background()
	s := openTest(t)
	require.NoError(t, s.Probe(ctx))
	require.NoError(t, os.Remove(s.path))
	inboxtest.Eventually(t, func() bool { return s.Probe(ctx) != nil })
	require.ErrorIs(t, s.Probe(ctx), inbox.ErrBroken)
}

// The room in reserve is restored by probes alone, since a load balancer that is told
// that the inbox is full sends no events.
func TestProbeRestoresTheReserve(t *testing.T) {
	ctx := context.Background()
	s := openTest(t)
	require.NoError(t, inWriter(s, func(x *tx) error {
		x.w.reserve.spent = true // as after a full disk
		return os.Remove(x.w.reserve.path)
	}))
	require.NoError(t, os.Mkdir(s.path+reserveSuffix, 0o700)) // it cannot be made yet
	require.ErrorIs(t, s.Probe(ctx), inbox.ErrFull)
	require.NoError(t, os.Remove(s.path+reserveSuffix))
	inboxtest.Eventually(t, func() bool { return s.Probe(ctx) == nil })
	require.FileExists(t, s.path+reserveSuffix)
}

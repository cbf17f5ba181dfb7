package inboxtest

import (
	"fmt"
	"sync"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// prober returns the inbox as one that can prove that it stores.
func (s *suite) prober() inbox.Prober {
	s.Helper()
	in := s.in
	if e, ok := in.(elsewhere); ok {
		in = e.Inbox
	}
	p, ok := in.(inbox.Prober)
	require.True(s, ok, "the inbox can prove that it stores")
	return p
}

var probeTests = []test{
	{"a probe leaves nothing behind", func(s *suite) {
		s.put("task", inbox.Completed)
		for range 3 { // what is made once and then replaced is there after the first
			require.NoError(s, s.prober().Probe(s.ctx()))
		}
		before, err := s.in.Stats(s.ctx())
		require.NoError(s, err)
		listed := s.list(inbox.Filter{}, 100)
		for range 20 {
			require.NoError(s, s.prober().Probe(s.ctx()))
		}
		after, err := s.in.Stats(s.ctx())
		require.NoError(s, err)
		require.Equal(s, before.Events, after.Events)
		require.Equal(s, before.Quarantined, after.Quarantined)
		require.Equal(s, listed, s.list(inbox.Filter{}, 100))
		require.Less(s, after.Bytes-before.Bytes, int64(256<<10), "but for a log that begins anew when it is long")
	}},
	{"many may probe at once, beside puts", func(s *suite) {
		p := s.prober()
		var all sync.WaitGroup
		for i := range 8 {
			e := s.event(fmt.Sprint("task ", i), inbox.Completed)
			all.Go(func() { assert.NoError(s, p.Probe(s.ctx())) })
			all.Go(func() {
				_, err := s.in.Put(s.ctx(), e)
				assert.NoError(s, err)
			})
		}
		all.Wait()
	}},
	{"a closed inbox proves nothing", func(s *suite) {
		p := s.prober()
		require.NoError(s, s.in.Close())
		require.ErrorIs(s, p.Probe(s.ctx()), inbox.ErrClosed)
	}},
}

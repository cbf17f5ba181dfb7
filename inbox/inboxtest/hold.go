package inboxtest

import (
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// holdTime has all the precision that must be kept.
var holdTime = time.Date(2026, 11, 25, 9, 30, 0, 123456000, time.UTC)

// setHold stores a hold and checks that Hold returns it.
func (s *suite) setHold(h inbox.Hold) {
	s.Helper()
	require.NoError(s, s.queue.SetHold(s.ctx(), h))
	s.requireHold(h)
}

func (s *suite) requireHold(want inbox.Hold) {
	s.Helper()
	got, err := s.queue.Hold(s.ctx())
	require.NoError(s, err)
	require.Equal(s, want, got)
}

// holds are stored one after the other.
var holds = []inbox.Hold{
	{Since: holdTime, Reason: "maintenance"},
	{Since: holdTime, Until: holdTime.Add(time.Hour), Reason: "wartung bis zehn Uhr dreißig"},
	{Since: holdTime, Until: holdTime.Add(time.Hour), Ended: holdTime.Add(time.Microsecond)},
	{Since: holdTime.Add(time.Minute), Ended: holdTime.Add(2 * time.Minute), Reason: "x"},
	{},
	{Since: holdTime.Add(time.Hour)},
}

var holdTests = []test{
	{"there is none at first", func(s *suite) {
		s.requireHold(inbox.Hold{})
		s.reopen()
		s.requireHold(inbox.Hold{})
	}},
	{"one takes the place of the one before", func(s *suite) {
		for _, h := range holds {
			s.setHold(h)
			s.setHold(h)
		}
	}},
	{"it outlives a restart", func(s *suite) {
		for _, h := range holds {
			s.setHold(h)
			s.reopen()
			s.requireHold(h)
		}
	}},
	{"it outlives a crash", func(s *suite) {
		for _, h := range holds {
			s.setHold(h)
			s.crash()
			s.requireHold(h)
		}
	}},
	{"its times are to the microsecond", func(s *suite) {
		zone := time.FixedZone("elsewhere", 3600)
		h := inbox.Hold{
			Since: holdTime.Add(999).In(zone),
			Until: holdTime.Add(time.Hour + 1).In(zone),
			Ended: holdTime.Add(time.Minute + 500).In(zone),
		}
		require.NoError(s, s.queue.SetHold(s.ctx(), h))
		for range 2 {
			got, err := s.queue.Hold(s.ctx())
			require.NoError(s, err)
			require.True(s, holdTime.Equal(got.Since), got.Since)
			require.True(s, holdTime.Add(time.Hour).Equal(got.Until), got.Until)
			require.True(s, holdTime.Add(time.Minute).Equal(got.Ended), got.Ended)
			s.reopen()
		}
	}},
	{"a long reason is cut between characters", func(s *suite) {
		long := "x" + strings.Repeat("é", inbox.MaxReason)
		require.NoError(s, s.queue.SetHold(s.ctx(), inbox.Hold{Since: holdTime, Reason: long}))
		for range 2 {
			h, err := s.queue.Hold(s.ctx())
			require.NoError(s, err)
			require.True(s, utf8.ValidString(h.Reason))
			require.LessOrEqual(s, len(h.Reason), inbox.MaxReason)
			require.Greater(s, len(h.Reason), inbox.MaxReason-utf8.UTFMax)
			require.True(s, strings.HasPrefix(long, h.Reason))
			s.reopen()
		}
	}},
	{"a reason is made valid UTF-8", func(s *suite) {
		require.NoError(s, s.queue.SetHold(s.ctx(), inbox.Hold{Since: holdTime, Reason: "bad \xff gateway"}))
		for range 2 {
			h, err := s.queue.Hold(s.ctx())
			require.NoError(s, err)
			require.True(s, utf8.ValidString(h.Reason))
			require.Contains(s, h.Reason, "gateway")
			s.reopen()
		}
	}},
	{"it holds nothing by itself", func(s *suite) {
		s.setHold(inbox.Hold{Since: time.Now().Add(-time.Hour).UTC().Truncate(time.Microsecond)})
		e := s.put("task", inbox.Completed)
		s.settle(inbox.Deliver, s.leaseOf(e))
	}},
	{"of many that are set at once, one stays", func(s *suite) {
		var wg sync.WaitGroup
		errs := make([]error, 2*len(holds))
		ctx := s.ctx()
		for i, h := range holds {
			wg.Go(func() { errs[2*i] = s.queue.SetHold(ctx, h) })
			wg.Go(func() { _, errs[2*i+1] = s.queue.Hold(ctx) })
		}
		wg.Wait()
		for _, err := range errs {
			require.NoError(s, err)
		}
		h, err := s.queue.Hold(s.ctx())
		require.NoError(s, err)
		require.Contains(s, holds, h)
		s.crash()
		s.requireHold(h)
	}},
}

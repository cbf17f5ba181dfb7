package inboxtest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// suspects quarantines n callbacks; it returns them in order of arrival.
func (s *suite) suspects(n int) []*inbox.Suspect {
	s.Helper()
	list := make([]*inbox.Suspect, n)
	for i := range list {
		list[i] = &inbox.Suspect{
			ReceivedAt: time.Date(2026, 11, 23, 12, 0, i, 1000, time.UTC),
			SourceIP:   "54.212.95.175",
			Status:     422,
			Problems:   fmt.Appendf(nil, `[{"pointer":"/taskId","detail":"%d"}]`, i),
			Body:       fmt.Appendf(nil, "{%d\x00\xff", i),
		}
		require.NoError(s, s.in.Quarantine(s.ctx(), list[i]))
		require.NotZero(s, list[i].ID)
	}
	return list
}

// allSuspects goes through all pages of the quarantine.
func (s *suite) allSuspects(limit int) (all []*inbox.Suspect) {
	s.Helper()
	p := inbox.Page{Limit: limit}
	for {
		page, next, err := s.in.Suspects(s.ctx(), p)
		require.NoError(s, err)
		require.LessOrEqual(s, len(page), limit)
		all = append(all, page...)
		if next == "" {
			return all
		}
		p.Cursor = next
	}
}

func reversed(list []*inbox.Suspect) []*inbox.Suspect {
	var r []*inbox.Suspect
	for i := range list {
		r = append(r, list[len(list)-1-i])
	}
	return r
}

var quarantineTests = []test{
	{"keeps a suspect as it came", func(s *suite) {
		q := s.suspects(1)[0]
		got, err := s.in.Suspect(s.ctx(), q.ID)
		require.NoError(s, err)
		require.Equal(s, q, got)
		s.reopen()
		got, err = s.in.Suspect(s.ctx(), q.ID)
		require.NoError(s, err)
		require.Equal(s, q, got)
	}},
	{"lists the newest first, page by page", func(s *suite) {
		list := s.suspects(7)
		for _, limit := range []int{1, 3, 7, 100} {
			require.Equal(s, reversed(list), s.allSuspects(limit))
		}
	}},
	{"the oldest goes out", func(s *suite) {
		list := s.suspects(13) // the policy allows ten
		require.Equal(s, reversed(list[3:]), s.allSuspects(100))
		require.EqualValues(s, 10, s.stats().Quarantined)
		_, err := s.in.Suspect(s.ctx(), list[0].ID)
		require.ErrorIs(s, err, inbox.ErrNotFound)
	}},
	{"ids are in order and not used again", func(s *suite) {
		list := s.suspects(2)
		require.Greater(s, list[1].ID, list[0].ID)
		require.NoError(s, s.in.Unquarantine(s.ctx(), list[1].ID))
		s.reopen()
		require.Greater(s, s.suspects(1)[0].ID, list[1].ID)
	}},
	{"one can be taken out", func(s *suite) {
		list := s.suspects(3)
		require.NoError(s, s.in.Unquarantine(s.ctx(), list[1].ID))
		require.ErrorIs(s, s.in.Unquarantine(s.ctx(), list[1].ID), inbox.ErrNotFound)
		_, err := s.in.Suspect(s.ctx(), list[1].ID)
		require.ErrorIs(s, err, inbox.ErrNotFound)
		require.Equal(s, []*inbox.Suspect{list[2], list[0]}, s.allSuspects(10))
		require.EqualValues(s, 2, s.stats().Quarantined)
	}},
	{"what is not there is not found", func(s *suite) {
		for _, id := range []int64{-1, 0, 1, 1 << 62} {
			_, err := s.in.Suspect(s.ctx(), id)
			require.ErrorIs(s, err, inbox.ErrNotFound)
			require.ErrorIs(s, s.in.Unquarantine(s.ctx(), id), inbox.ErrNotFound)
		}
	}},
	{"a smaller limit holds for what is there", func(s *suite) {
		list := s.suspects(10)
		s.in.SetPolicy(inbox.Policy{Keep: time.Hour, Quarantine: 2})
		s.eventually("the oldest are removed", func() bool { return s.stats().Quarantined == 2 })
		require.Equal(s, reversed(list[8:]), s.allSuspects(100))
	}},
	{"with a limit of none it is dropped", func(s *suite) {
		s.in.SetPolicy(inbox.Policy{Keep: time.Hour})
		require.NoError(s, s.in.Quarantine(s.ctx(), &inbox.Suspect{Status: 400, Body: []byte("x")}))
		require.Empty(s, s.allSuspects(100))
		require.Zero(s, s.stats().Quarantined)
	}},
}

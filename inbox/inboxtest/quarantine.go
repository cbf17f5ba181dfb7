package inboxtest

import (
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// suspects quarantines n callbacks, and returns them in order of arrival.
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

// allSuspects returns the suspects of all pages.
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
	r := slices.Clone(list)
	slices.Reverse(r)
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
	{"equal bodies are one", func(s *suite) {
		list := s.suspects(3)
		again := &inbox.Suspect{
			ReceivedAt: list[0].ReceivedAt.Add(time.Minute), SourceIP: "44.236.127.35", Status: 415,
			Problems: []byte(`[{"pointer":"","detail":"x"}]`), Body: list[0].Body,
		}
		require.NoError(s, s.in.Quarantine(s.ctx(), again))
		want := &inbox.Suspect{
			ID: list[0].ID, ReceivedAt: list[0].ReceivedAt, Last: again.Last, Count: 2,
			SourceIP: "44.236.127.35", Status: 415, Problems: again.Problems, Body: list[0].Body,
		}
		require.Equal(s, want, again)
		require.Equal(s, list[0].ReceivedAt.Add(time.Minute), again.Last)
		for range 2 {
			got, err := s.in.Suspect(s.ctx(), want.ID)
			require.NoError(s, err)
			require.Equal(s, want, got)
			for _, limit := range []int{1, 2, 100} {
				require.Equal(s, []*inbox.Suspect{want, list[2], list[1]}, s.allSuspects(limit), "what arrived last comes first")
			}
			require.EqualValues(s, 3, s.stats().Quarantined)
			s.reopen()
		}
		require.NoError(s, s.in.Unquarantine(s.ctx(), want.ID))
		require.ErrorIs(s, s.in.Unquarantine(s.ctx(), want.ID), inbox.ErrNotFound)
		fresh := &inbox.Suspect{ReceivedAt: again.Last, Status: 400, Body: list[0].Body}
		require.NoError(s, s.in.Quarantine(s.ctx(), fresh))
		require.EqualValues(s, 1, fresh.Count)
		require.Greater(s, fresh.ID, list[2].ID, "it begins anew")
	}},
	{"equal bodies push nothing out", func(s *suite) {
		list := s.suspects(10) // as many as the policy allows
		for i := range 30 {
			q := *list[4]
			q.Count, q.Last, q.ReceivedAt = 0, time.Time{}, list[9].ReceivedAt.Add(time.Duration(i)*time.Second)
			require.NoError(s, s.in.Quarantine(s.ctx(), &q))
			require.EqualValues(s, i+2, q.Count)
			require.Equal(s, list[4].ID, q.ID)
		}
		require.Len(s, s.allSuspects(3), 10)
		require.EqualValues(s, 10, s.stats().Quarantined)
	}},
	{"what has not arrived for longest goes out", func(s *suite) {
		list := s.suspects(10)
		q := *list[0]
		q.ReceivedAt, q.Last, q.Count = q.ReceivedAt.Add(time.Hour), time.Time{}, 0
		require.NoError(s, s.in.Quarantine(s.ctx(), &q))
		more := &inbox.Suspect{ReceivedAt: q.Last, Status: 400, Body: []byte("more")}
		require.NoError(s, s.in.Quarantine(s.ctx(), more))
		all := s.allSuspects(100)
		require.Len(s, all, 10)
		require.Equal(s, []int64{more.ID, list[0].ID, list[9].ID}, []int64{all[0].ID, all[1].ID, all[2].ID})
		_, err := s.in.Suspect(s.ctx(), list[1].ID)
		require.ErrorIs(s, err, inbox.ErrNotFound)
	}},
	{"arrivals of elsewhere are added", func(s *suite) {
		at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
		here := &inbox.Suspect{ReceivedAt: at, SourceIP: "::1", Status: 422, Body: []byte("x")}
		require.NoError(s, s.in.Quarantine(s.ctx(), here))
		moved := &inbox.Suspect{
			ReceivedAt: at.Add(-time.Hour), Last: at.Add(-time.Minute), Count: 40, SourceIP: "::2", Status: 400, Body: []byte("x"),
		}
		require.NoError(s, s.in.Quarantine(s.ctx(), moved))
		got, err := s.in.Suspect(s.ctx(), here.ID)
		require.NoError(s, err)
		require.Equal(s, &inbox.Suspect{
			ID: here.ID, ReceivedAt: at.Add(-time.Hour), Last: at, Count: 41, SourceIP: "::1", Status: 422,
			Problems: got.Problems, Body: []byte("x"),
		}, got)
		require.Empty(s, got.Problems)
	}},
	{"equal bodies at once are one", func(s *suite) {
		var jobs errgroup.Group
		for i := range 40 {
			jobs.Go(func() error {
				return s.in.Quarantine(s.ctx(), &inbox.Suspect{
					ReceivedAt: time.Date(2026, 11, 23, 12, 0, i, 0, time.UTC), Status: 422, Body: fmt.Appendf(nil, "body %d", i%4),
				})
			})
		}
		require.NoError(s, jobs.Wait())
		all := s.allSuspects(100)
		require.Len(s, all, 4)
		ids := make(map[int64]bool)
		for _, q := range all {
			require.EqualValues(s, 10, q.Count)
			require.Equal(s, 36*time.Second, q.Last.Sub(q.ReceivedAt))
			ids[q.ID] = true
		}
		require.Len(s, ids, 4)
	}},
	{"ids are in order and not used again", func(s *suite) {
		list := s.suspects(2)
		require.Greater(s, list[1].ID, list[0].ID)
		require.NoError(s, s.in.Unquarantine(s.ctx(), list[1].ID))
		s.reopen()
		fresh := &inbox.Suspect{ReceivedAt: list[1].ReceivedAt, Status: 400, Body: []byte("fresh")}
		require.NoError(s, s.in.Quarantine(s.ctx(), fresh))
		require.Greater(s, fresh.ID, list[1].ID)
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

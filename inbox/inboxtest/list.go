package inboxtest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// list returns the records of all pages, newest first.
func (s *suite) list(f inbox.Filter, limit int) []*inbox.Record {
	s.Helper()
	return s.pages(f, inbox.Page{Limit: limit}, func() {})
}

// listOldest returns the records of all pages, oldest first.
func (s *suite) listOldest(f inbox.Filter, limit int) []*inbox.Record {
	s.Helper()
	return s.pages(f, inbox.Page{Limit: limit, OldestFirst: true}, func() {})
}

// pages returns the records of all pages, and calls between after each but the
// last.
func (s *suite) pages(f inbox.Filter, p inbox.Page, between func()) (all []*inbox.Record) {
	s.Helper()
	for {
		records, next, err := s.in.List(s.ctx(), f, p)
		require.NoError(s, err)
		require.LessOrEqual(s, len(records), p.Limit)
		all = append(all, records...)
		if next == "" {
			return all
		}
		require.NotEqual(s, p.Cursor, next)
		p.Cursor = next
		between()
	}
}

// only returns the ids of the records that are among those wanted.
func only(records []*inbox.Record, wanted []string) []string {
	return slices.DeleteFunc(recordIDs(records), func(id string) bool { return !slices.Contains(wanted, id) })
}

// population is a set of events in every state for which lists can be filtered,
// and others among them that are added and removed meanwhile.
type population struct {
	filters map[string]inbox.Filter
	want    map[string][]string // events that stay, by filter, oldest first
	others  []*inbox.Event
}

func (s *suite) populate() *population {
	s.Helper()
	h := &population{
		filters: map[string]inbox.Filter{
			"all":       {},
			"pending":   {States: []inbox.State{inbox.Pending}},
			"dead":      {States: []inbox.State{inbox.Dead}},
			"delivered": {States: []inbox.State{inbox.Delivered}},
			"both ends": {States: []inbox.State{inbox.Delivered, inbox.Dead}},
			"task":      {TaskID: "stays"},
			"type":      {Type: "videoEnhancer"},
		},
		want: map[string][]string{},
	}
	for i := range 24 {
		task := fmt.Sprint("task ", i)
		if i%6 == 4 {
			task = "stays"
		}
		e := s.event(task, inbox.Completed)
		names := []string{"all"}
		if i%3 == 0 {
			e.Type = "videoEnhancer"
			names = append(names, "type")
		}
		s.putEvent(e)
		switch i % 6 {
		case 4:
			if i == 4 { // the later ones of its task wait for it
				s.postpone(e)
			}
			names = append(names, "task", "pending")
		case 5:
			s.postpone(e)
			h.others, names = append(h.others, e), nil
		default:
			s.settle([]inbox.Verdict{inbox.GiveUp, inbox.Deliver}[i%2], s.lease(1)...)
			names = append(names, []string{"dead", "delivered"}[i%2], "both ends")
		}
		for _, name := range names {
			h.want[name] = append(h.want[name], e.ID)
		}
	}
	return h
}

// postpone releases the only event that is due for an hour.
func (s *suite) postpone(e *inbox.Event) {
	s.Helper()
	o := Outcome(inbox.Release, s.lease(1)[0])
	require.Equal(s, e, o.Lease.Event)
	o.Due = time.Now().Add(time.Hour)
	require.NoError(s, s.queue.Settle(s.ctx(), o))
}

var listTests = []test{
	{"lists the oldest first, page by page", func(s *suite) {
		var events []string
		for i := range 23 {
			events = append(events, s.put(fmt.Sprint("task ", i), inbox.Completed).ID)
		}
		for _, limit := range []int{1, 2, 3, 5, 22, 23, 24, 1000} {
			require.Equal(s, events, recordIDs(s.listOldest(inbox.Filter{}, limit)), "%d a page", limit)
		}
	}},
	{"an empty inbox lists nothing, oldest first", func(s *suite) {
		require.Empty(s, s.listOldest(inbox.Filter{}, 10))
		require.NoError(s, s.in.Purge(s.ctx(), s.put("task", inbox.Completed).ID, ""))
		require.Empty(s, s.listOldest(inbox.Filter{}, 10))
	}},
	{"a page has at most 100 rows unless told, oldest first", func(s *suite) {
		for i := range 101 {
			s.put(fmt.Sprint("task ", i), inbox.Completed)
		}
		records, next, err := s.in.List(s.ctx(), inbox.Filter{}, inbox.Page{OldestFirst: true})
		require.NoError(s, err)
		require.LessOrEqual(s, len(records), 100)
		require.NotEmpty(s, next)
	}},
	{"a page that cannot be is an error, oldest first", func(s *suite) {
		for _, p := range []inbox.Page{{Limit: -1}, {Limit: 1001}, {Cursor: "x"}, {Cursor: " "}, {Cursor: "99999999999999999999"}} {
			p.OldestFirst = true
			_, _, err := s.in.List(s.ctx(), inbox.Filter{}, p)
			require.Error(s, err, p)
			_, _, err = s.in.Suspects(s.ctx(), p)
			require.Error(s, err, p)
		}
	}},
	{"what is gone does not shift the pages", func(s *suite) {
		for _, oldest := range []bool{false, true} {
			var events []*inbox.Event
			for i := range 9 {
				events = append(events, s.put(fmt.Sprint("task ", i), inbox.Completed))
			}
			// After each page all its events are removed, and one of those to
			// come.
			left := slices.Clone(events)
			if !oldest {
				slices.Reverse(left)
			}
			var want, got []string
			for i, e := range left {
				if i%3 != 1 {
					want = append(want, e.ID)
				}
			}
			p := inbox.Page{Limit: 1, OldestFirst: oldest}
			for {
				records, next, err := s.in.List(s.ctx(), inbox.Filter{}, p)
				require.NoError(s, err)
				for _, r := range records {
					got = append(got, r.Event.ID)
					require.NoError(s, s.in.Purge(s.ctx(), r.Event.ID, ""))
					at := slices.IndexFunc(left, func(e *inbox.Event) bool { return e.ID == r.Event.ID })
					if at%3 == 0 {
						require.NoError(s, s.in.Purge(s.ctx(), left[at+1].ID, ""))
					}
				}
				if p.Cursor = next; next == "" {
					break
				}
			}
			require.Equal(s, want, got)
		}
	}},
	{"oldest first, what is put meanwhile may come at the end", func(s *suite) {
		events := []string{s.put("a", inbox.Completed).ID, s.put("b", inbox.Completed).ID, s.put("c", inbox.Completed).ID}
		var later []string
		got := recordIDs(s.pages(inbox.Filter{}, inbox.Page{Limit: 1, OldestFirst: true}, func() {
			if len(later) < 5 {
				later = append(later, s.put("later", inbox.Completed).ID)
			}
		}))
		require.GreaterOrEqual(s, len(got), len(events))
		require.Equal(s, append(events, later...)[:len(got)], got)
	}},
	{"pages are stable while events come and go", func(s *suite) {
		h := s.populate()
		stop := make(chan struct{})
		var arrivals [][]*inbox.Event
		for i := range s.churnRounds() {
			arrivals = append(arrivals, []*inbox.Event{
				s.event("stays", inbox.Completed), // waits for those that stay
				s.event(fmt.Sprint("arrives ", i), inbox.Completed),
				s.event(fmt.Sprint("arrives ", i), inbox.Completed),
			})
		}
		var failed error
		churn := background(func() { failed = churn(stop, s.in, s.queue, h.others, arrivals) })
		for range 3 {
			for name, f := range h.filters {
				for _, limit := range []int{1, 2, 7} {
					want := h.want[name]
					require.Equal(s, want, only(s.listOldest(f, limit), want), "%s, %d a page", name, limit)
					got := only(s.list(f, limit), want)
					slices.Reverse(got)
					require.Equal(s, want, got, "%s newest first, %d a page", name, limit)
				}
			}
		}
		close(stop)
		s.await(churn)
		require.NoError(s, failed)
	}},
	{"no event comes twice while others arrive", func(s *suite) {
		stop := make(chan struct{})
		var arrivals [][]*inbox.Event
		for i := range s.churnRounds() {
			arrivals = append(arrivals, []*inbox.Event{
				s.event("task", inbox.Completed), s.event(fmt.Sprint("arrives ", i), inbox.Completed), s.event("task", inbox.Failed),
			})
		}
		var failed error
		churn := background(func() { failed = churn(stop, s.in, s.queue, nil, arrivals) })
		for range 20 {
			for _, oldest := range []bool{false, true} {
				seen := map[string]bool{}
				p := inbox.Page{Limit: 3, OldestFirst: oldest}
				for range 20 { // the list may grow faster than it is read
					records, next, err := s.in.List(s.ctx(), inbox.Filter{}, p)
					require.NoError(s, err)
					for _, r := range records {
						require.False(s, seen[r.Event.ID])
						seen[r.Event.ID] = true
					}
					if p.Cursor = next; next == "" {
						break
					}
				}
			}
		}
		close(stop)
		s.await(churn)
		require.NoError(s, failed)
	}},
	{"suspects come newest first even so", func(s *suite) {
		list := s.suspects(5)
		var got []*inbox.Suspect
		p := inbox.Page{Limit: 2, OldestFirst: true}
		for {
			page, next, err := s.in.Suspects(s.ctx(), p)
			require.NoError(s, err)
			got = append(got, page...)
			if p.Cursor = next; next == "" {
				break
			}
		}
		require.Equal(s, reversed(list), got)
	}},
}

// churn puts events in groups of three, and removes them again: those that are
// due are settled, then the first and the last are purged. It ends with stop or
// after the last group.
func churn(stop <-chan struct{}, in inbox.Inbox, queue inbox.Queue, others []*inbox.Event, arrivals [][]*inbox.Event) (err error) {
	for i, events := range arrivals {
		select {
		case <-stop:
			return nil
		default:
		}
		gone := []*inbox.Event{events[0], events[2]}
		if i < len(others) {
			gone = append(gone, others[i])
		}
		verdicts := []inbox.Verdict{inbox.Deliver, inbox.GiveUp}
		if i%2 == 1 {
			slices.Reverse(verdicts)
		}
		withPatience(func(ctx context.Context) { err = comeAndGo(ctx, in, queue, events, verdicts, gone) })
		if err != nil {
			return err
		}
	}
	return nil
}

// comeAndGo puts events, settles those that are due with the verdicts in turn,
// and purges some.
func comeAndGo(ctx context.Context, in inbox.Inbox, queue inbox.Queue, events []*inbox.Event, verdicts []inbox.Verdict, gone []*inbox.Event) error {
	for _, e := range events {
		if _, err := in.Put(ctx, e); err != nil {
			return err
		}
	}
	leases, err := queue.Lease(ctx, 100)
	if err != nil {
		return err
	}
	for n, l := range leases {
		if err := queue.Settle(ctx, Outcome(verdicts[n%len(verdicts)], l)); err != nil {
			return err
		}
	}
	for _, e := range gone {
		if err := in.Purge(ctx, e.ID, ""); err != nil {
			return err
		}
	}
	return nil
}

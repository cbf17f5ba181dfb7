package sqlite

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// bothOrders are the first pages of a list.
var bothOrders = map[string]inbox.Page{"newest first": {}, "oldest first": {OldestFirst: true}}

// pagesOf returns the number of rows on each page of a list.
func pagesOf(t *testing.T, s *store, f inbox.Filter, p inbox.Page) (rows []int) {
	t.Helper()
	for {
		records, next, err := s.List(context.Background(), f, p)
		require.NoError(t, err)
		rows = append(rows, len(records))
		if p.Cursor = next; next == "" {
			return rows
		}
	}
}

// A page reads a limited number of events, whatever matches, and a list has as
// many pages as that takes. Dead events are found by their index, without
// reading others.
func TestPageLooksAtFewEvents(t *testing.T) {
	const n, scan = 1000, 50
	ctx := context.Background()
	l := defaultLimits
	l.reserve, l.scan = 4096, scan
	s := openWith(t, t.TempDir()+"/inbox.db", l)
	load(t, s, n, 64)
	var dead []string
	for len(dead) < 3*scan/seqStep {
		leases, err := s.Lease(ctx, 10)
		require.NoError(t, err)
		for _, lease := range leases {
			v := inbox.Deliver
			if lease.Ref%7 == 0 {
				v = inbox.GiveUp
				dead = append(dead, lease.Event.ID)
			}
			inboxtest.Settle(t, s, v, lease)
		}
	}
	for name, p := range bothOrders {
		t.Run(name, func(t *testing.T) {
			p.Limit = inbox.MaxPage
			require.Len(t, pagesOf(t, s, inbox.Filter{Type: "none"}, p), n/scan)
			require.Len(t, pagesOf(t, s, inbox.Filter{}, p), n/scan)

			deadOnly := inbox.Filter{States: []inbox.State{inbox.Dead}}
			rows := pagesOf(t, s, deadOnly, p)
			require.Len(t, rows, (len(dead)+scan/seqStep-1)/(scan/seqStep))
			require.Equal(t, scan/seqStep, rows[0], "found at once, however far they are apart")
			deadOnly.Type = "none"
			require.Len(t, pagesOf(t, s, deadOnly, p), len(rows))

			require.Equal(t, []int{1}, pagesOf(t, s, inbox.Filter{TaskID: taskOf(t, s, dead[0])}, p))
		})
	}
}

func taskOf(t *testing.T, s *store, id string) string {
	t.Helper()
	r, err := s.Get(context.Background(), id)
	require.NoError(t, err)
	return r.Event.TaskID
}

// A long task is listed in steps, too, whether its entries are in memory or in
// the table.
func TestPageOfALongTaskLooksAtFewEvents(t *testing.T) {
	const n = 23
	s := openWith(t, t.TempDir()+"/inbox.db", smallLimits)
	first := newEvent()
	var want []string
	for i := range n {
		e := newEvent()
		e.TaskID, e.ID = first.TaskID, inbox.NewID(first.TaskID, []byte{byte(i)})
		inboxtest.Put(t, s, e)
		want = append(want, e.ID)
	}
	step := int(smallLimits.scan / seqStep)
	for name, p := range bothOrders {
		t.Run(name, func(t *testing.T) {
			require.Len(t, pagesOf(t, s, inbox.Filter{TaskID: first.TaskID}, p), (n+step-1)/step)
			require.Len(t, pagesOf(t, s, inbox.Filter{TaskID: first.TaskID, Type: "none"}, p), (n+step-1)/step)
		})
	}
	var got []string
	p := inbox.Page{OldestFirst: true, Limit: 1}
	for {
		records, next, err := s.List(context.Background(), inbox.Filter{TaskID: first.TaskID}, p)
		require.NoError(t, err)
		got = append(got, records[0].Event.ID)
		if p.Cursor = next; next == "" {
			break
		}
	}
	require.Equal(t, want, got)
}

func TestCursorOfTheOtherOrderIsAnError(t *testing.T) {
	s := openTest(t)
	load(t, s, 3, 1)
	for name, p := range bothOrders {
		t.Run(name, func(t *testing.T) {
			_, next, err := s.List(context.Background(), inbox.Filter{}, inbox.Page{Limit: 1, OldestFirst: p.OldestFirst})
			require.NoError(t, err)
			_, _, err = s.List(context.Background(), inbox.Filter{}, inbox.Page{Cursor: next, OldestFirst: !p.OldestFirst})
			require.ErrorIs(t, err, inbox.ErrCursor)
		})
	}
	for _, cursor := range []string{"a", "a0", "a-1", "a01", "aa1", "1a", "A1"} {
		_, _, err := s.List(context.Background(), inbox.Filter{}, inbox.Page{Cursor: cursor, OldestFirst: true})
		require.ErrorIs(t, err, inbox.ErrCursor, cursor)
	}
}

// arrivals is a context that puts events at the first call of Err, which comes
// while the rows of a list are read.
type arrivals struct {
	context.Context //nolint:containedctx // it wraps one
	put             func()
}

func (a *arrivals) Err() error {
	if put := a.put; put != nil {
		a.put = nil
		put()
	}
	return nil
}

// If events arrive while a page is read oldest first, none of them is left out
// before a later one.
func TestOldestFirstLeavesNothingOut(t *testing.T) {
	l := defaultLimits
	l.reserve, l.scan = 4096, 10
	s := openWith(t, t.TempDir()+"/inbox.db", l)
	load(t, s, int(l.scan)+2, 1) // the list ends with what is there when its last page is read
	ctx := &arrivals{Context: context.Background(), put: func() { load(t, s, 2*int(l.scan), 1) }}
	var got []string
	p := inbox.Page{OldestFirst: true}
	for {
		records, next, err := s.List(ctx, inbox.Filter{}, p)
		require.NoError(t, err)
		for _, r := range records {
			got = append(got, r.Event.ID)
		}
		if p.Cursor = next; next == "" {
			break
		}
	}
	var want []string
	leases, err := s.Lease(context.Background(), 100)
	require.NoError(t, err)
	for _, lease := range leases {
		want = append(want, lease.Event.ID)
	}
	require.Len(t, want, 2+3*int(l.scan))
	require.Equal(t, want, got)
}

func TestPageOfLargeBodiesOrTracesIsShort(t *testing.T) {
	ctx := context.Background()
	s := openTest(t)
	for i := range 6 {
		e := newEvent()
		if i%2 == 0 {
			e.Body = make([]byte, inbox.MaxPageBytes/2)
		} else {
			e.TraceParent, e.TraceState = strings.Repeat("p", inbox.MaxPageBytes/4), strings.Repeat("s", inbox.MaxPageBytes/4)
		}
		inboxtest.Put(t, s, e)
		leases, err := s.Lease(ctx, 1)
		require.NoError(t, err)
		inboxtest.Settle(t, s, inbox.GiveUp, leases[0])
	}
	for name, p := range bothOrders {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, []int{2, 2, 2}, pagesOf(t, s, inbox.Filter{}, p))
			require.Equal(t, []int{2, 2, 2}, pagesOf(t, s, inbox.Filter{States: []inbox.State{inbox.Dead}}, p))
		})
	}
}

// rows is a context that counts the calls of Err, of which there is one for
// each row that a list reads.
type rows struct {
	context.Context //nolint:containedctx // it wraps one
	n               int
}

func (r *rows) Err() error {
	r.n++
	return nil
}

// Bodies of events that do not match are not read: they may be large.
func TestListReadsOnlyWhatFits(t *testing.T) {
	s := openTest(t)
	load(t, s, 3, 1)
	leases, err := s.Lease(context.Background(), 2)
	require.NoError(t, err)
	for _, l := range leases {
		inboxtest.Settle(t, s, inbox.GiveUp, l)
	}
	task, dead := leases[0].Event.TaskID, []inbox.State{inbox.Dead}
	for name, c := range map[string]struct {
		filter inbox.Filter
		want   int
	}{
		"all":                  {inbox.Filter{}, 3},
		"another type":         {inbox.Filter{Type: "none"}, 0},
		"dead":                 {inbox.Filter{States: dead}, 2},
		"dead of another type": {inbox.Filter{States: dead, Type: "none"}, 0},
		"dead before":          {inbox.Filter{States: dead, Until: time.Unix(1, 0)}, 0},
		"task":                 {inbox.Filter{TaskID: task}, 1},
		"task, another type":   {inbox.Filter{TaskID: task, Type: "none"}, 0},
		"task, another state":  {inbox.Filter{TaskID: task, States: []inbox.State{inbox.Pending}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, p := range bothOrders {
				read := &rows{Context: context.Background()}
				records, _, err := s.List(read, c.filter, p)
				require.NoError(t, err)
				require.Len(t, records, c.want)
				require.Equal(t, c.want, read.n)
			}
		})
	}
}

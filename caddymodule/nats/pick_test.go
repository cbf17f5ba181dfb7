package nats

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/natstest"
)

// allowNewest lets all events be leased out of turn, and waits until those that are there
// can be: a consumer counts an event some time after it was stored.
func allowNewest(t testing.TB, s *store) {
	t.Helper()
	ctx := context.Background()
	data, err := json.Marshal(span{1, 1 << 40})
	require.NoError(t, err)
	subject := s.subjects.meta(metaNewest)
	_, err = s.publish(ctx, &nats.Msg{Subject: subject, Data: data}, 0, subject)
	require.NoError(t, err)
	inboxtest.Eventually(t, func() bool { return s.home.readNewest(ctx) == nil && s.home.pick.open().has(1) })
	inboxtest.Eventually(t, func() bool {
		state, err := s.eventState(ctx)
		require.NoError(t, err)
		delivered, err := s.home.countNew(ctx)
		require.NoError(t, err)
		s.home.pick.mu.Lock()
		defer s.home.pick.mu.Unlock()
		return s.home.pick.pending == state.LastSeq-delivered
	})
}

// putTasks puts an event of each of so many tasks.
func putTasks(t testing.TB, s *store, prefix string, n int) (events []*inbox.Event) {
	t.Helper()
	for i := range n {
		e := inboxtest.NewEvent(fmt.Sprint(prefix, " ", i), inbox.Completed)
		inboxtest.Put(t, s, e)
		events = append(events, e)
	}
	return events
}

// pickNewest returns one of the newest, which there must be.
func pickNewest(t testing.TB, s *store) *inbox.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	leases, err := s.home.Pick(ctx, inbox.Want{Max: 1, Newest: 1})
	require.NoError(t, err)
	require.True(t, leases[0].Newest)
	return leases[0]
}

// leaseIDs leases n events and returns which they are.
func leaseIDs(t testing.TB, s *store, n int) (ids []string) {
	t.Helper()
	for _, l := range inboxtest.Lease(t, s.home, n) {
		ids = append(ids, l.Event.ID)
	}
	return ids
}

// pickModel is what a test knows of an inbox that several stores pick from.
type pickModel struct {
	t    *testing.T
	open func() *store

	mu        sync.Mutex
	order     map[string][]string // of each task, as put
	put       int
	held      map[string]string // by task
	ended     map[string][]string
	delivered map[string]int
	newest    int
}

// Several Caddys lease out of turn and in turn, some slowly, some die; what comes once
// must come once, and in the order of its task.
func TestWhatIsLeasedOutOfTurnComesOnceAndInTheOrderOfItsTask(t *testing.T) {
	few := func(o *options) { o.limits, o.limits.parked, o.settings.lease = smallLimits, 50, 2*time.Second }
	t.Run("one server", func(t *testing.T) {
		url := serve(t).ClientURL()
		pickFromSeveral(t, func() *store { return openWith(t, url, few) })
	})
	t.Run("three servers", func(t *testing.T) {
		c := natstest.New(t, natstest.Config{Nodes: 3})
		pickFromSeveral(t, func() *store {
			return openWith(t, "", few, func(o *options) {
				o.urls, o.settings.replicas, o.limits.known, o.settings.lease = c.URLs(), 3, time.Second, 10*time.Second
			})
		})
	})
}

func pickFromSeveral(t *testing.T, open func() *store) {
	t.Helper()
	m := &pickModel{
		t: t, open: open, order: map[string][]string{}, held: map[string]string{},
		ended: map[string][]string{}, delivered: map[string]int{},
	}
	stores := []*store{m.open(), m.open(), m.open()}
	m.fill(stores[0], 100)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var putting, delivering sync.WaitGroup
	for _, s := range stores {
		putting.Go(func() { m.fill(s, 150) })
		delivering.Go(func() { m.deliver(ctx, s) })
	}
	putting.Go(m.die)
	putting.Wait()
	for left := m.left(); left > 0; left = m.left() {
		inboxtest.Eventually(t, func() bool { return m.left() < left })
	}
	cancel()
	delivering.Wait()
	for id, times := range m.delivered {
		require.Equal(t, 1, times, id)
	}
	require.Equal(t, m.order, m.ended)
	require.Greater(t, m.newest, 20)
	nothingElse(t, stores[1])
	t.Log(m.put, "events, out of turn", m.newest)
}

// left returns how many events are to be delivered.
func (m *pickModel) left() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.put - len(m.delivered)
}

// fill puts events, most of tasks of their own. One store puts the events of a task, so
// that their order is known.
func (m *pickModel) fill(s *store, n int) {
	for range n {
		task := inbox.NewID("task", fmt.Append(nil, rand.Uint64()))
		if rand.IntN(3) == 0 { //nolint:gosec // it need not be secret
			task = fmt.Sprint(s.instance, rand.IntN(10)) //nolint:gosec // as above
		}
		e := inboxtest.NewEvent(task, inbox.Completed)
		m.mu.Lock()
		m.order[task] = append(m.order[task], e.ID)
		m.put++
		m.mu.Unlock()
		if _, err := s.Put(context.Background(), e); err != nil {
			m.t.Error(err)
		}
		time.Sleep(rand.N(4 * time.Millisecond)) //nolint:gosec // as above
	}
}

// pick leases some, and checks that it is their turn.
func (m *pickModel) pick(ctx context.Context, s *store) []*inbox.Lease {
	most := 1 + rand.IntN(8)                                                            //nolint:gosec // as above
	leases, err := s.home.Pick(ctx, inbox.Want{Max: most, Newest: rand.IntN(most + 1)}) //nolint:gosec // as above
	if err != nil {
		require.ErrorIs(m.t, err, ctx.Err())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range leases {
		e := l.Event
		assert.Empty(m.t, m.held[e.TaskID], "an event of %s is leased beside %s", e.TaskID, e.ID)
		assert.Zero(m.t, m.delivered[e.ID], "%s was delivered", e.ID)
		before := slices.Index(m.order[e.TaskID], e.ID)
		assert.Len(m.t, m.ended[e.TaskID], before, "those of %s before %s", e.TaskID, e.ID)
		m.held[e.TaskID] = e.ID
		if l.Newest {
			m.newest++
		}
	}
	return leases
}

func (m *pickModel) deliver(ctx context.Context, s *store) {
	for ctx.Err() == nil {
		bounded, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		leases := m.pick(bounded, s)
		cancel()
		if rand.IntN(100) == 0 { //nolint:gosec // as above
			time.Sleep(2500 * time.Millisecond) // longer than a lease lasts
		}
		time.Sleep(rand.N(20 * time.Millisecond)) //nolint:gosec // as above
		var all []inbox.Outcome
		m.mu.Lock()
		for _, l := range leases {
			o := inboxtest.Outcome(inbox.Deliver, l)
			switch rand.IntN(10) { //nolint:gosec // as above
			case 0:
				o = inboxtest.Outcome(inbox.Release, l)
			case 1:
				o = inboxtest.Outcome(inbox.Retry, l)
			default:
				m.delivered[l.Event.ID]++
				m.ended[l.Event.TaskID] = append(m.ended[l.Event.TaskID], l.Event.ID)
			}
			delete(m.held, l.Event.TaskID)
			all = append(all, o)
		}
		m.mu.Unlock()
		assert.NoError(m.t, s.home.Settle(context.Background(), all...)) //nolint:contextcheck // it is settled though ctx has ended
	}
}

// die leases some and dies, again and again.
func (m *pickModel) die() {
	for range 3 {
		s := m.open()
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		var leases []*inbox.Lease
		for range 5 {
			leases = append(leases, m.pick(ctx, s)...)
		}
		cancel()
		m.mu.Lock()
		for _, l := range leases {
			delete(m.held, l.Event.TaskID)
		}
		m.mu.Unlock()
		crash(s)
	}
}

// A Caddy that had read before that nothing is leased out of turn, and was handed an
// event since, has leased it without a look.
func TestALeaseOutOfTurnIsWithdrawnIfTheEventWasHandedOut(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url), openWith(t, url)
	ctx := context.Background()
	events := putTasks(t, a, "task", 20)
	require.NoError(t, b.home.readNewest(ctx))
	free, last, err := a.home.neverLeased(ctx, span{1, 20})
	require.NoError(t, err)
	require.EqualValues(t, 20, last)
	held := a.home.claimAll(ctx, free[:2])
	require.Len(t, held, 2)
	theirs := inboxtest.Lease(t, b.home, 20)
	inboxtest.Settle(t, b.home, inbox.Retry, theirs[19])
	leases, err := a.home.keepUndelivered(ctx, held)
	require.NoError(t, err)
	require.Empty(t, leases)
	inboxtest.Settle(t, b.home, inbox.Retry, theirs[:19]...)
	again := inboxtest.Lease(t, a.home, 20)
	require.Equal(t, 2, again[0].Attempt)
	inboxtest.Settle(t, a.home, inbox.Deliver, again...)
	require.Len(t, events, 20)
	nothingElse(t, b)
}

// Who gets in turn what another Caddy has leased out of turn waits as long as that one
// lives, and no longer.
func TestALeaseOutOfTurnLastsAsLongAsItsCaddy(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url, small), openWith(t, url, small)
	events := putTasks(t, a, "task", 20)
	allowNewest(t, a)
	kept, lost := pickNewest(t, a), pickNewest(t, a)
	require.Equal(t, []string{events[19].ID, events[18].ID}, []string{kept.Event.ID, lost.Event.ID})
	inboxtest.Settle(t, b.home, inbox.Deliver, inboxtest.Lease(t, b.home, 18)...)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second) // three times the lease
	defer cancel()
	_, err := b.home.Lease(ctx, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	inboxtest.Settle(t, a.home, inbox.Deliver, kept)
	crash(a)
	again := inboxtest.Lease(t, b.home, 1)
	require.Equal(t, lost.Event, again[0].Event)
	require.Equal(t, 1, again[0].Attempt)
	inboxtest.Settle(t, b.home, inbox.Deliver, again...)
	nothingElse(t, b)
}

func small(o *options) { o.limits = smallLimits }

// A renewal that was stored, but whose answer was lost, does not end the lease.
func TestARenewalWhoseAnswerWasLostCounts(t *testing.T) {
	s := openWith(t, serve(t).ClientURL(), small, func(o *options) { o.settings.lease = time.Minute })
	putTasks(t, s, "task", 20)
	allowNewest(t, s)
	settled, renewed := pickNewest(t, s), pickNewest(t, s)
	ctx := context.Background()
	for _, l := range []*inbox.Lease{settled, renewed} {
		h := s.home.leaser.get(l.Ref)
		_, err := s.writeRecord(ctx, home, leased, h.id, h.history.lease, h.last)
		require.NoError(t, err)
	}
	inboxtest.Settle(t, s.home, inbox.Retry, settled)
	h := s.home.leaser.get(renewed.Ref)
	before := h.last
	s.home.renew(h)
	s.home.renew(h)
	require.Greater(t, h.last, before+1)
	inboxtest.Settle(t, s.home, inbox.GiveUp, renewed)
}

// What was leased out of turn is as it was once it is handed back, or its Caddy ends.
func TestWhatWasLeasedOutOfTurnKeepsItsPlace(t *testing.T) {
	url := serve(t).ClientURL()
	a := openWith(t, url, small)
	events := putTasks(t, a, "task", 20)
	allowNewest(t, a)
	released, open := pickNewest(t, a), pickNewest(t, a)
	inboxtest.Settle(t, a.home, inbox.Release, released)
	require.Equal(t, events[18].ID, open.Event.ID)
	require.NoError(t, a.Close())
	b := openWith(t, url, small)
	want := make([]string, len(events))
	for i, e := range events {
		want[i] = e.ID
	}
	require.Equal(t, want, leaseIDs(t, b, 20))
}

// The range is used once all Caddys have it, and goes on with the events that come.
func TestTheNewestAreLeasedOnceThereIsABacklog(t *testing.T) {
	s := openWith(t, serve(t).ClientURL(), small, func(o *options) { o.limits.known = 500 * time.Millisecond })
	putTasks(t, s, "old", 30)
	require.False(t, s.home.pick.open().has(30))
	began := time.Now()
	pickNewest(t, s)
	require.Greater(t, time.Since(began), 600*time.Millisecond)
	opened := s.home.pick.open()
	require.True(t, opened.has(30))
	for n := range 700 {
		if n%100 == 0 {
			e := putTasks(t, s, fmt.Sprint("new ", n), 100)
			l := pickNewest(t, s)
			require.Equal(t, e[99].ID, l.Event.ID)
		}
	}
	inboxtest.Eventually(t, func() bool {
		inboxtest.Settle(t, s.home, inbox.Deliver, pickNewest(t, s))
		return s.home.pick.open().To > opened.To
	})
}

// While there is no backlog, nothing is asked for besides what every lease asks for.
func TestWithoutABacklogTheNewestCostNothing(t *testing.T) {
	url := serve(t).ClientURL()
	s := afterMaintenance(t, openWith(t, url, passive))
	conn, err := nats.Connect(url)
	require.NoError(t, err)
	defer conn.Close()
	var asked atomic.Int64
	for _, subject := range []string{"$JS.API.CONSUMER.INFO.>", "$JS.API.STREAM.INFO.>", "$JS.API.STREAM.MSG.GET.>", "$JS.API.DIRECT.GET.>"} {
		_, err = conn.Subscribe(subject, func(*nats.Msg) { asked.Add(1) })
		require.NoError(t, err)
	}
	require.NoError(t, conn.Flush())
	began := time.Now()
	for n := range 200 {
		e := putTasks(t, s, fmt.Sprint(n), 1)
		leases, err := s.home.Pick(context.Background(), inbox.Want{Max: 8, Newest: 2})
		require.NoError(t, err)
		require.Equal(t, e[0].ID, leases[0].Event.ID)
		inboxtest.Settle(t, s.home, inbox.Deliver, leases...)
	}
	require.NoError(t, conn.Flush())
	require.Less(t, asked.Load(), 20+int64(2*time.Since(began).Seconds()), "for 200 leases")
	require.False(t, slices.ContainsFunc(s.home.pick.opened, func(o opening) bool { return o.To > 0 }))
}

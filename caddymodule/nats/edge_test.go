package nats

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/natstest"
)

// The race detector shows whether the message of a lease may be replaced while
// the lease is settled.
func TestALeaseIsSettledWhileItsEventComesAgain(t *testing.T) {
	s := openWith(t, serve(t).ClientURL())
	for range 20 {
		inboxtest.Put(t, s, inboxtest.NewEvent("task", inbox.Completed))
		l := inboxtest.Lease(t, s.home, 1)
		again := *s.home.leaser.get(l[0].Ref).msg
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					s.home.arrived(&s.home.leaser.fresh, &again)
				}
			}
		})
		inboxtest.Settle(t, s.home, inbox.Deliver, l...)
		close(stop)
		wg.Wait()
		s.home.leaser.drop(l[0].Event.ID)
	}
}

// An event that a Caddy is about to remove may have been put again since, and
// delivered.
func TestWhatIsRemovedLateTakesNothingOfAnEventThatWasPutAgain(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url), openWith(t, url)
	ctx := context.Background()
	e := inboxtest.NewEvent("task", inbox.Completed)
	inboxtest.Put(t, a, e)
	inboxtest.Settle(t, a.home, inbox.Deliver, inboxtest.Lease(t, a.home, 1)...)
	m, err := a.home.find(ctx, e.ID)
	require.NoError(t, err)
	late := expired{id: e.ID, seq: m.seq}
	late.last, err = a.writeRecord(ctx, home, gone, e.ID, record{Event: m.seq}, m.last)
	require.NoError(t, err)
	require.NoError(t, b.retireOne(ctx, home, gone, late), "another is faster")
	b.forgetRecords(ctx, home, []uint64{m.last, late.last})
	inboxtest.Put(t, b, e)
	inboxtest.Settle(t, b.home, inbox.Deliver, inboxtest.Lease(t, b.home, 1)...)
	require.NoError(t, a.retireOne(ctx, home, gone, late))
	require.NoError(t, a.erase(ctx, home, late, late.last))
	r, err := b.Get(ctx, e.ID)
	require.NoError(t, err)
	require.Equal(t, inbox.Delivered, r.State)
	next := inboxtest.NewEvent("task", inbox.Completed)
	inboxtest.Put(t, b, next)
	require.Equal(t, next.ID, inboxtest.Lease(t, b.home, 1)[0].Event.ID)
}

// If somebody removes the consumers while Caddys run, events are still
// delivered, and none again.
func TestConsumersThatVanishAreMadeAnew(t *testing.T) {
	server := serve(t)
	quick := func(o *options) { o.limits.maintenance = 2 * time.Second }
	a, b := openWith(t, server.ClientURL(), quick), openWith(t, server.ClientURL(), quick)
	ctx := context.Background()
	for _, s := range []*store{a, b} {
		inboxtest.Put(t, s, inboxtest.NewEvent("done", inbox.Completed))
		inboxtest.Settle(t, s.home, inbox.Deliver, inboxtest.Lease(t, s.home, 1)...)
	}
	js := admin(t, server.ClientURL())
	for _, stream := range []string{"TEST", "TEST_STATE"} {
		require.NoError(t, js.DeleteConsumer(ctx, stream, consumerName))
	}
	waits := inboxtest.NewEvent("other", inbox.Completed)
	inboxtest.Put(t, a, waits)
	l := inboxtest.Lease(t, b.home, 1)
	require.Equal(t, waits, l[0].Event)
	inboxtest.Settle(t, b.home, inbox.Retry, l...)
	l = inboxtest.Lease(t, a.home, 1)
	require.Equal(t, waits, l[0].Event)
	inboxtest.Settle(t, a.home, inbox.Deliver, l...)
	nothingElse(t, a)
	nothingElse(t, b)
}

func TestNobodyIsAskedWithoutAPause(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url)
	require.NoError(t, admin(t, url).DeleteStream(context.Background(), "TEST_STATE"))
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	_, err := s.home.Lease(ctx, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, requests(s), 20)
}

func requests(s *store) int {
	s.home.leaser.mu.Lock()
	defer s.home.leaser.mu.Unlock()
	return s.home.leaser.fresh.requests + s.home.leaser.again.requests
}

// A network that swallows everything fills the buffers of the connection.
// Waiting for room must take no longer than waiting for an answer.
func TestAConnectionThatIsFullHoldsNobodyUp(t *testing.T) {
	c := natstest.New(t, natstest.Config{Nodes: 1, Cuttable: true})
	s := openWith(t, c.URLs()[0], func(o *options) { o.settings.publishTimeout = time.Second })
	inboxtest.Put(t, s, inboxtest.NewEvent("task", inbox.Completed))
	c.Cut(0)
	began := time.Now()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			e := inboxtest.NewEvent("task", inbox.Completed)
			e.Body = make([]byte, 512<<10)
			_, err := s.Put(context.Background(), e)
			assert.Error(t, err)
		})
	}
	wg.Wait()
	require.Less(t, time.Since(began), 20*time.Second)
}

// Other Caddys see no record of a first lease, so one of them may purge the
// event.
func TestAnEventThatWasPurgedDuringItsFirstAttemptIsNotDead(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url), openWith(t, url)
	ctx := context.Background()
	e := inboxtest.NewEvent("task", inbox.Completed)
	inboxtest.Put(t, a, e)
	l := inboxtest.Lease(t, a.home, 1)
	require.NoError(t, b.Purge(ctx, e.ID, ""))
	require.ErrorIs(t, a.home.Settle(ctx, inboxtest.Outcomes(inbox.GiveUp, l...)...), inbox.ErrState)
	stats, err := b.Stats(ctx)
	require.NoError(t, err)
	require.Zero(t, stats.Events)
	nothingElse(t, a)
}

// counting returns a function that returns the number of requests sent since.
func counting(s *store) func() int {
	before := s.conn.Stats().OutMsgs
	return func() int { return int(s.conn.Stats().OutMsgs - before) } //nolint:gosec // it is small
}

// Leasing an event of a very long task must not take so many queries that
// publish_timeout ends it each time.
func TestALeaseOfALongTaskAsksLittle(t *testing.T) {
	s := openWith(t, serve(t).ClientURL())
	for range 100 {
		inboxtest.Put(t, s, inboxtest.NewEvent("task", inbox.Completed))
		inboxtest.Settle(t, s.home, inbox.Deliver, inboxtest.Lease(t, s.home, 1)...)
	}
	inboxtest.Put(t, s, inboxtest.NewEvent("task", inbox.Completed))
	asked := counting(s)
	inboxtest.Lease(t, s.home, 1)
	require.Less(t, asked(), 30)
}

// A list that steps over a gap must not read everything behind it.
func TestWhatLiesBehindAGapIsReadAPageAtATime(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url, func(o *options) { o.limits.window = 10 })
	ctx := context.Background()
	var old []*inbox.Event
	for n := range 200 {
		old = append(old, inboxtest.NewEvent(fmt.Sprint("task ", n), inbox.Completed))
	}
	inboxtest.Put(t, s, old...)
	js := admin(t, url)
	stream, err := js.Stream(ctx, "TEST")
	require.NoError(t, err)
	for range 3100 {
		_, err := js.PublishAsync("TEST.event.of.others", nil)
		require.NoError(t, err)
	}
	<-js.PublishAsyncComplete()
	require.NoError(t, stream.Purge(ctx, jetstream.WithPurgeSubject("TEST.event.of.others")))
	inboxtest.Put(t, s, inboxtest.NewEvent("task", inbox.Completed))
	before := s.conn.Stats().InMsgs
	records, next, err := s.List(ctx, inbox.Filter{}, inbox.Page{Limit: 3})
	require.NoError(t, err)
	require.Less(t, int(s.conn.Stats().InMsgs-before), 100) //nolint:gosec // it is small
	require.Len(t, records, 3)
	records, _, err = s.List(ctx, inbox.Filter{}, inbox.Page{Limit: 1, Cursor: next})
	require.NoError(t, err)
	require.Equal(t, old[197], records[0].Event)
}

// Neither a page of events nor one of suspects is read as a whole before it is
// cut.
func TestLargeOnesAreReadAFewAtATime(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url, func(o *options) { o.settings.maxSize, o.policy.Quarantine = 1<<30, 1000 })
	ctx := context.Background()
	for n := range 60 {
		e := inboxtest.NewEvent(fmt.Sprint("task ", n), inbox.Completed)
		e.Body = make([]byte, 900<<10)
		inboxtest.Put(t, s, e)
		e.Body[0] = byte(n)
		require.NoError(t, s.Quarantine(ctx, &inbox.Suspect{ReceivedAt: e.ReceivedAt, Status: 400, Body: e.Body}))
	}
	const most = 5 * inbox.MaxPageBytes
	before := s.conn.Stats().InBytes
	_, next, err := s.List(ctx, inbox.Filter{}, inbox.Page{Limit: 1000})
	require.NoError(t, err)
	require.NotEmpty(t, next)
	require.Less(t, s.conn.Stats().InBytes-before, uint64(most))
	before = s.conn.Stats().InBytes
	_, next, err = s.Suspects(ctx, inbox.Page{Limit: 1000})
	require.NoError(t, err)
	require.NotEmpty(t, next)
	require.Less(t, s.conn.Stats().InBytes-before, uint64(most))
}

// The record of many attempts must fit into a message, or the event could never
// be settled.
func TestLongReasonsOfManyAttemptsFitTheServersMessages(t *testing.T) {
	s := openWith(t, serve(t, func(o *server.Options) { o.MaxPayload = 64 << 10 }).ClientURL())
	inboxtest.Put(t, s, inboxtest.NewEvent("task", inbox.Completed))
	ctx := context.Background()
	reason := strings.Repeat("<\x01", inbox.MaxReason/2)
	const times = 12
	for range times {
		o := inboxtest.Outcomes(inbox.Retry, inboxtest.Lease(t, s.home, 1)...)
		o[0].Attempt.Reason = reason
		require.NoError(t, s.home.Settle(ctx, o...))
	}
	l := inboxtest.Lease(t, s.home, 1)
	require.Equal(t, times+1, l[0].Attempt)
	inboxtest.Settle(t, s.home, inbox.Deliver, l...)
	record, err := s.Get(ctx, l[0].Event.ID)
	attempts := inboxtest.Log(record)
	require.NoError(t, err)
	require.Greater(t, len(attempts), 5)
	require.Equal(t, reason, attempts[len(attempts)-2].Reason)
}

// The records of a page with many long reasons do not fit into one answer of
// the server. The rest must not be taken for events without a record.
func TestAPageOfLargeRecordsIsWhole(t *testing.T) {
	url := serve(t, func(o *server.Options) { o.MaxPending = 12 << 20 }).ClientURL()
	s := openWith(t, url, func(o *options) { o.limits.window = 500 })
	ctx := context.Background()
	long := make([]attempt, 36)
	for n := range long {
		long[n] = attempt{At: 1, Status: 503, Reason: strings.Repeat("x", inbox.MaxReason)}
	}
	for n := range 450 {
		e := inboxtest.NewEvent(fmt.Sprint("task ", n), inbox.Completed)
		inboxtest.Put(t, s, e)
		_, err := s.writeRecord(ctx, home, dead, e.ID, record{Event: uint64(n) + 1, Log: long}, 0) //nolint:gosec // it is small
		require.NoError(t, err)
	}
	records, _, err := s.List(ctx, inbox.Filter{}, inbox.Page{Limit: 450})
	require.NoError(t, err)
	require.Len(t, records, 450)
	for _, r := range records {
		require.Equal(t, 503, r.Last.Status)
	}
}

// If something foreign is among the events of a task, they cannot be looked at.
// They are tried less and less often, because other events wait for each look.
func TestWhatCannotBeLookedAtIsTriedLessOften(t *testing.T) {
	url := serve(t).ClientURL()
	core, logs := observer.New(zap.WarnLevel)
	s := openWith(t, url, func(o *options) { o.log = zap.New(core) })
	e := inboxtest.NewEvent("task", inbox.InProgress)
	inboxtest.Put(t, s, e)
	_, err := admin(t, url).Publish(context.Background(), s.subjects.event(inboxtest.NewEvent("task", inbox.Completed).ID), nil)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err = s.home.Lease(ctx, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	looks := logs.FilterMessageSnippet("cannot be looked at").Len()
	require.Positive(t, looks)
	require.Less(t, looks, 10)
}

// This is what the runbook says about a lost stream of states.
func TestWithoutItsRecordsEveryEventComesAgain(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url)
	ctx := context.Background()
	done, retried := inboxtest.NewEvent("done", inbox.Completed), inboxtest.NewEvent("retried", inbox.Completed)
	inboxtest.Put(t, s, done)
	inboxtest.Settle(t, s.home, inbox.Deliver, inboxtest.Lease(t, s.home, 1)...)
	inboxtest.Put(t, s, retried)
	inboxtest.Settle(t, s.home, inbox.Retry, inboxtest.Lease(t, s.home, 1)...)
	require.NoError(t, admin(t, url).DeleteStream(ctx, s.subjects.states()))
	require.NoError(t, s.Close())
	require.NoError(t, admin(t, url).DeleteConsumer(ctx, s.subjects.stream, consumerName))
	s = openWith(t, url)
	all := inboxtest.Lease(t, s.home, 2)
	require.ElementsMatch(t, []string{done.ID, retried.ID}, []string{all[0].Event.ID, all[1].Event.ID})
}

// An event that a server does not know of, though it was handed out, may be on its
// way to that server: it is not given up before it has been missing for a while.
func TestAnEventThatIsMissingForAMomentIsNotGivenUp(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url, idle)
	ctx := context.Background()
	inboxtest.Put(t, s, inboxtest.NewEvent("task", inbox.Completed))
	c := candidateOf(t, s)
	require.NoError(t, stream(t, url, "TEST").DeleteMsg(ctx, c.seq)) // so it looks from there
	require.NoError(t, s.home.dropPurged(ctx, c))
	inspect(s, func(l *leaser) {
		require.Equal(t, []*candidate{c}, l.parked, "it is looked at again")
		l.parked = nil
	})
	c.missing = time.Now().Add(-missingFor)
	require.NoError(t, s.home.dropPurged(ctx, c))
	inspect(s, func(l *leaser) { require.Empty(t, l.parked) })
}

// inspect calls f with what is handed out, while nothing changes it.
func inspect(s *store, f func(*leaser)) {
	l := &s.home.leaser
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l)
}

// candidateOf takes the event that is handed out next. From then on what is handed out is
// kept, as if somebody waited for it all the time.
func candidateOf(t *testing.T, s *store) *candidate {
	t.Helper()
	s.home.leaser.setBusy(true)
	require.NoError(t, s.home.request(&s.home.leaser.fresh, 1))
	var batch []*candidate
	inboxtest.Eventually(t, func() bool {
		batch, _ = s.home.leaser.take(1, false, time.Now())
		return len(batch) > 0
	})
	return batch[0]
}

package nats

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

const modelEvents = 30 // put by each store

// modelTasks are prefixes of task ids, by what is done to the events besides
// being delivered.
var modelTasks = []string{"untouched", "untouched", "replayed", "purged"}

// destinationsOf returns where the events of a task go.
func (m *model) destinationsOf(task string) []string {
	if len(m.destinations) == 1 {
		return nil
	}
	switch inbox.TaskKey(task) % 5 {
	case 0:
		return nil
	case 1:
		return []string{"a"}
	case 2:
		return []string{inbox.DefaultDestination, "b"}
	default:
		return m.destinations
	}
}

func (m *model) anyDestination() string {
	return m.destinations[rand.IntN(len(m.destinations))] //nolint:gosec // it need not be secret
}

// key identifies an event or a task at a destination.
func key(destination, id string) string { return destination + " " + id }

// model is the expected state of an inbox that several stores share.
type model struct {
	t            *testing.T
	url          string
	destinations []string // where events go: all events of a task to the same ones

	mu       sync.Mutex
	events   map[string]*inbox.Event  // what was put
	finals   map[string]time.Time     // when a task's first final event for a destination was accepted
	to       map[string][]string      // where an event goes
	out      map[string]string        // the leased event of a task at a destination
	ends     map[string][]string      // events of a task in the order in which they ended at a destination
	verdicts map[string]inbox.Verdict // of an event at a destination
	purged   map[string]bool          // some of these may exist nevertheless
	suspects int

	puts chan struct{} // receives once for each put
}

// Several Caddys put, lease, settle, replay, purge, quarantine and crash at
// random. The checks hold whatever they do.
func TestWhateverSeveralDoNothingIsLostTwiceOrOutOfOrder(t *testing.T) {
	for _, destinations := range [][]string{{inbox.DefaultDestination}, {inbox.DefaultDestination, "a", "b"}} {
		t.Run(fmt.Sprint("destinations ", len(destinations)), func(t *testing.T) { runModel(t, destinations) })
	}
}

func runModel(t *testing.T, destinations []string) {
	m := &model{
		t: t, destinations: destinations, url: serve(t).ClientURL(), events: map[string]*inbox.Event{}, finals: map[string]time.Time{}, out: map[string]string{}, to: map[string][]string{},
		ends: map[string][]string{}, verdicts: map[string]inbox.Verdict{}, purged: map[string]bool{},
		puts: make(chan struct{}, 3*modelEvents),
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stores := []*store{m.open(), m.open(), m.open()}
	var putting, busy, delivering sync.WaitGroup
	for n, s := range stores {
		random := rand.New(rand.NewPCG(rand.Uint64(), 0)) //nolint:gosec // it need not be secret
		putting.Go(func() { m.put(s, stores[(n+1)%3], random) })
		for _, d := range m.destinations {
			delivering.Go(func() { m.deliver(ctx, s, d) })
		}
	}
	busy.Go(func() { m.edit(m.open()) })
	busy.Go(m.vanish)
	putting.Wait()
	close(m.puts)
	busy.Wait()
	m.await(stores[0])
	m.awaitRest(stores[0])
	cancel()
	delivering.Wait()
	m.check(stores[1])
}

// open opens a store with small limits, so that all code paths are taken.
func (m *model) open() *store {
	s := openWith(m.t, m.url, func(o *options) {
		o.limits, o.policy.Quarantine = smallLimits, 1000
		o.limits.parked = 20               // events beyond it take long to come back
		o.settings.lease = 5 * time.Second // no lease runs out because the machine is busy
	})
	for _, d := range m.destinations {
		at(m.t, s, d)
	}
	return s
}

// put puts events, some through both stores at the same time.
func (m *model) put(a, b *store, random *rand.Rand) {
	for range modelEvents {
		kind := modelTasks[random.IntN(len(modelTasks))]
		e := inboxtest.NewEvent(fmt.Sprint(kind, " ", random.IntN(5)), inbox.Completed)
		if random.IntN(2) == 0 {
			e = inboxtest.NewEvent(fmt.Sprint(kind, " short ", random.IntN(40)), inbox.Status(random.IntN(3)))
		}
		m.mu.Lock()
		m.events[e.ID] = e
		sent := *e
		sent.Destinations = m.destinationsOf(e.TaskID)
		m.to[e.ID] = sent.GoesTo()
		m.mu.Unlock()
		var firsts [2]int
		var wg sync.WaitGroup
		for n, s := range []*store{a, b}[:1+random.IntN(2)] {
			wg.Go(func() {
				duplicateOf, err := s.Put(context.Background(), &sent)
				if assert.NoError(m.t, err) && duplicateOf == "" {
					firsts[n] = 1
				}
			})
		}
		wg.Wait()
		m.mu.Lock()
		for _, d := range sent.GoesTo() {
			if task := key(d, e.TaskID); e.Status.Final() && m.finals[task].IsZero() {
				m.finals[task] = time.Now()
			}
		}
		if !m.purged[e.ID] { // it may have been purged in between
			assert.Equal(m.t, 1, firsts[0]+firsts[1], "how often it was new")
		}
		m.mu.Unlock()
		m.puts <- struct{}{}
		if random.IntN(8) == 0 {
			m.may(a.Quarantine(context.Background(), &inbox.Suspect{ReceivedAt: e.ReceivedAt, Status: 400, Body: e.Body}))
			m.mu.Lock()
			m.suspects++
			m.mu.Unlock()
		}
	}
}

// lease leases events and checks that it is their turn.
func (m *model) lease(ctx context.Context, s *store, destination string, n int) []*inbox.Lease {
	began := time.Now()
	leases, err := s.queueNamed(destination).Lease(ctx, n)
	if err != nil {
		m.may(err, ctx.Err())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range leases {
		assert.Equal(m.t, m.events[l.Event.ID], l.Event)
		task := l.Event.TaskID
		if strings.HasPrefix(task, "purged") {
			continue // another store may purge one that was just leased
		}
		assert.Contains(m.t, m.to[l.Event.ID], destination)
		assert.Empty(m.t, m.out[key(destination, task)], "another event of %s is leased beside %s", task, l.Event.ID)
		m.out[key(destination, task)] = l.Event.ID
		if final := m.finals[key(destination, task)]; !l.Event.Status.Final() && !final.IsZero() {
			assert.Greater(m.t, final, began, "an event in progress of %s was leased after its final one", task)
		}
	}
	return leases
}

// deliver leases and settles until ctx ends.
func (m *model) deliver(ctx context.Context, s *store, destination string) {
	for ctx.Err() == nil {
		var all []inbox.Outcome
		for _, l := range m.lease(ctx, s, destination, 1+rand.IntN(8)) { //nolint:gosec // as above
			o := inbox.Outcome{Lease: l, Verdict: inbox.Deliver, Attempt: inbox.Attempt{At: time.Now(), Status: 500}}
			switch rand.IntN(10) { //nolint:gosec // as above
			case 0, 1:
				o.Verdict = inbox.Retry
			case 2:
				o.Verdict, o.Due = inbox.Retry, time.Now().Add(20*time.Millisecond)
			case 3:
				o.Verdict = inbox.Release
			case 4:
				o.Verdict = inbox.GiveUp
			}
			all = append(all, o)
		}
		m.settle(s, destination, all) //nolint:contextcheck // leases are settled after ctx has ended, too
	}
}

// settle settles leases. It records the ends first, before others can lease the
// next events.
func (m *model) settle(s *store, destination string, all []inbox.Outcome) {
	m.mu.Lock()
	for _, o := range all {
		task := key(destination, o.Lease.Event.TaskID)
		delete(m.out, task)
		if o.Verdict == inbox.Deliver || o.Verdict == inbox.GiveUp {
			m.ends[task] = append(m.ends[task], o.Lease.Event.ID)
			m.verdicts[key(destination, o.Lease.Event.ID)] = o.Verdict
		}
	}
	m.mu.Unlock()
	err := s.queueNamed(destination).Settle(context.Background(), all...)
	if err == nil {
		return
	}
	m.may(err, inbox.ErrState)
	for line := range strings.SplitSeq(err.Error(), "\n") {
		i := slices.IndexFunc(all, func(o inbox.Outcome) bool { return strings.Contains(line, o.Lease.Event.ID) })
		if assert.GreaterOrEqual(m.t, i, 0, line) && !strings.HasPrefix(all[i].Lease.Event.TaskID, "purged") {
			m.t.Errorf("verdict %v at %s: %s", all[i].Verdict, destination, line)
			m.tell(s, all[i].Lease.Event.ID)
		}
	}
}

// edit replays and purges events.
func (m *model) edit(s *store) {
	for range m.puts {
		var e *inbox.Event
		m.mu.Lock()
		for _, e = range m.events { // a random one
			break
		}
		if e != nil && strings.HasPrefix(e.TaskID, "purged") && rand.IntN(4) == 0 { //nolint:gosec // as above
			m.purged[e.ID] = true
		}
		m.mu.Unlock()
		var err error
		switch {
		case e == nil || strings.HasPrefix(e.TaskID, "untouched"):
			continue
		case m.isPurged(e.ID):
			err = s.Purge(context.Background(), e.ID, "")
		case rand.IntN(3) == 0: //nolint:gosec // as above
			err = s.Replay(context.Background(), e.ID, m.anyDestination())
		case rand.IntN(3) == 0: //nolint:gosec // as above
			err = m.move(s, e)
		default:
			err = s.Replay(context.Background(), e.ID, "")
		}
		m.may(err, inbox.ErrState, inbox.ErrNotFound)
	}
}

// move gives an event a delivery to one more destination, or repeats that.
func (m *model) move(s *store, e *inbox.Event) error {
	to := m.anyDestination()
	m.mu.Lock()
	if !slices.Contains(m.to[e.ID], to) {
		m.to[e.ID] = append(slices.Clone(m.to[e.ID]), to)
	}
	m.mu.Unlock()
	return s.Move(context.Background(), e.ID, "", to)
}

// may fails the test unless the error is nil or allowed.
func (m *model) may(err error, allowed ...error) {
	if !slices.ContainsFunc(append(allowed, nil), func(a error) bool { return errors.Is(err, a) }) {
		m.t.Error(err)
	}
}

func (m *model) isPurged(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.purged[id]
}

// vanish leases some events and crashes, several times.
func (m *model) vanish() {
	for range 3 {
		s := m.open()
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		destination := m.anyDestination()
		leases := m.lease(ctx, s, destination, 3)
		cancel()
		m.mu.Lock()
		for _, l := range leases {
			delete(m.out, key(destination, l.Event.TaskID))
		}
		m.mu.Unlock()
		crash(s)
	}
}

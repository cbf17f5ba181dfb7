package reconcile

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/fotorapi"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

// registry is where a group of gateways registers.
type registry struct {
	mu      sync.Mutex
	records map[string]record
}

type record struct {
	rate float64
	ends time.Time
}

// count returns those who are registered.
func (r *registry) count() (askers inbox.Askers) {
	for _, one := range r.records {
		if time.Now().Before(one.ends) {
			askers.Count++
			if askers.Rate == 0 || one.rate < askers.Rate {
				askers.Rate = one.rate
			}
		}
	}
	return askers
}

// lose loses all registrations.
func (r *registry) lose() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.records)
}

// member is a gateway of the group: its way to the registry, its budget, and what it asks.
type member struct {
	*Share
	registry *registry
	name     string
	budget   *fotorapi.Adaptive
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu      sync.Mutex
	cut     bool          // the registry cannot be reached
	slow    time.Duration // how long it takes at most
	asked   []time.Time
	changes []ShareState
}

var errAway = errors.New("away")

// newMember makes a gateway that asks as often as it may.
func newMember(r *registry, name string, rate float64) *member {
	m := &member{registry: r, name: name, budget: fotorapi.NewAdaptive(rate)}
	m.Share = NewShare(m, "account", func(s ShareState) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.changes = append(m.changes, s)
	})
	asker := m.Use(m, rate)
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	m.running.Go(func() { m.Run(ctx) })
	m.running.Go(func() {
		for {
			turn, err := asker.Turn(ctx)
			if err != nil {
				return
			}
			if _, err = turn.Ask(ctx, ""); err != nil {
				return
			}
		}
	})
	return m
}

// leave ends it as a clean stop does, die as the end of its process.
func (m *member) leave() {
	m.cancel()
	m.running.Wait()
}

func (m *member) die() {
	m.setCut(true)
	m.leave()
}

func (m *member) setCut(cut bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut = cut
}

func (m *member) questions() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.asked)
}

func (m *member) question(i int) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked[i]
}

func (m *member) told() []ShareState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.changes)
}

// way takes the time of a request to the registry.
func (m *member) way(ctx context.Context) error {
	m.mu.Lock()
	cut, took := m.cut, time.Duration(0)
	if m.slow > 0 {
		took = rand.N(m.slow)
	}
	m.mu.Unlock()
	if !sleep.For(ctx, took) {
		return ctx.Err()
	}
	if cut {
		<-ctx.Done()
		return errAway
	}
	return nil
}

// Register implements inbox.AskerRegistry.
func (m *member) Register(ctx context.Context, a inbox.Asker) (inbox.Askers, error) {
	if err := m.way(ctx); err != nil {
		return inbox.Askers{}, err
	}
	m.registry.mu.Lock()
	m.registry.records[m.name] = record{a.Rate, time.Now().Add(inbox.AskerLife)}
	askers := m.registry.count()
	m.registry.mu.Unlock()
	return askers, m.way(ctx)
}

// Unregister implements inbox.AskerRegistry.
func (m *member) Unregister(ctx context.Context, _ string) error {
	if err := m.way(ctx); err != nil {
		return err
	}
	m.registry.mu.Lock()
	defer m.registry.mu.Unlock()
	delete(m.registry.records, m.name)
	return nil
}

// Turn implements Asker.
func (m *member) Turn(ctx context.Context) (Turn, error) {
	done, err := m.budget.Wait(ctx)
	if err != nil {
		return nil, err
	}
	done(nil)
	return m, nil
}

// Ask implements Turn.
func (m *member) Ask(context.Context, string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, time.Now())
	return nil, nil
}

// Unused implements Turn.
func (*member) Unused() {}

// Limit implements Limited.
func (m *member) Limit(rate float64) { m.budget.SetRate(rate) }

func inGroup(t *testing.T, f func(t *testing.T, r *registry)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, &registry{records: make(map[string]record)}) })
}

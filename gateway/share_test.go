package gateway

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// sharedDepot is a trackingDepot that others use, too.
type sharedDepot struct {
	*trackingDepot
	others     int
	err        error
	registered map[string]int
	left       []string
}

// Open implements Storage.
func (d *sharedDepot) Open(context.Context, string, inbox.Policy, *zap.Logger) (inbox.Inbox, error) {
	return d, nil
}

func (d *sharedDepot) Register(_ context.Context, a inbox.Asker) (inbox.Askers, error) {
	d.tasksMu.Lock()
	defer d.tasksMu.Unlock()
	d.registered[a.Account]++
	return inbox.Askers{Count: 1 + d.others, Rate: a.Rate}, d.err
}

func (d *sharedDepot) Unregister(_ context.Context, account string) error {
	d.tasksMu.Lock()
	defer d.tasksMu.Unlock()
	d.left = append(d.left, account)
	return nil
}

func (d *sharedDepot) set(others int, err error) {
	d.tasksMu.Lock()
	defer d.tasksMu.Unlock()
	d.others, d.err = others, err
}

func (d *sharedDepot) registrations(account string) int {
	d.tasksMu.Lock()
	defer d.tasksMu.Unlock()
	return d.registered[account]
}

// limited is a fotor with an account and a rate.
type limited struct {
	*fotor
	account string
	limits  []float64
}

func (f *limited) Account() string { return f.account }

func (f *limited) Limit(rate float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limits = append(f.limits, rate)
}

func (f *limited) limit() float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.limits[len(f.limits)-1]
}

func newShared(t *testing.T, tasks ...string) (*asking, *sharedDepot) {
	t.Helper()
	a := newAsking(t, tasks...)
	return a, &sharedDepot{trackingDepot: a.tasks, registered: make(map[string]int)}
}

func (a *asking) asksShared(name string, d *sharedDepot, f *limited) *Config {
	c := a.asks(name, f.fotor)
	c.Storage, c.Asking.Fotor = d, f
	return c
}

func TestGatewaysOfASharedInboxShareTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, d := newShared(t, "a")
		d.others = 1
		f := &limited{fotor: new(fotor), account: "mine"}
		require.NoError(t, a.attach(a.asksShared("one", d, f)))
		g := a.atts[0].gateway
		awhile(time.Second)
		assert.InDelta(t, 1, f.limit(), 0)
		assert.Equal(t, &control.AskingShare{Askers: 2}, g.Asking().Share)
		assert.Zero(t, g.Asking().Rate)
		assert.Zero(t, f.questions())
		awhile(10 * time.Second)
		assert.Equal(t, &control.AskingShare{Askers: 2, Rate: 1}, g.Asking().Share)
		assert.InDelta(t, 1, g.Asking().Rate, 0)
		assert.Equal(t, 1, f.questions())
		assert.Len(t, a.logs.FilterMessageSnippet("at this Caddy's part of the rate").All(), 1)

		d.set(1, errors.New("cut off"))
		awhile(10 * time.Second)
		assert.Equal(t, &control.AskingShare{Askers: 2, Reason: "cut off"}, g.Asking().Share)
		assert.Len(t, a.logs.FilterMessageSnippet("Fotor is not asked").All(), 1)
		a.detach(0)
		assert.Equal(t, []string{"mine"}, d.left)
	})
}

func TestAReloadKeepsItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, d := newShared(t)
		first := &limited{fotor: new(fotor), account: "mine"}
		require.NoError(t, a.attach(a.asksShared("one", d, first)))
		awhile(time.Minute)
		for range 10 {
			again := &limited{fotor: new(fotor), account: "mine"}
			require.NoError(t, a.attach(a.asksShared("again", d, again)))
			a.detach(0)
			assert.InDelta(t, 2, again.limit(), 0)
			assert.InDelta(t, 2, a.atts[0].gateway.Asking().Share.Rate, 0, "it may ask at once")
		}
		awhile(time.Minute)
		assert.Empty(t, d.left)
		assert.InDelta(t, 60, d.registrations("mine"), 3, "it does not register more often")

		g := a.atts[0].gateway
		other := &limited{fotor: new(fotor), account: "other"}
		require.NoError(t, a.attach(a.asksShared("other", d, other)))
		a.detach(0)
		awhile(time.Second)
		assert.Equal(t, []string{"mine"}, d.left)
		assert.Zero(t, g.Asking().Share.Rate, "with another account it is a newcomer")
		awhile(time.Minute)
		assert.InDelta(t, 2, g.Asking().Share.Rate, 0)
		a.detach(0)
		assert.Equal(t, []string{"mine", "other"}, d.left)
		assert.Empty(t, g.shares)
	})
}

package gateway

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/reconcile"
)

// confirmer is an asking whose configs confirm final callbacks.
type confirmer struct {
	*asking
	fotor *fotor
	rules *callback.Rules

	mu     sync.Mutex
	bodies []string // that were delivered
}

func newConfirmerOf(t *testing.T, answers map[string]string) *confirmer {
	t.Helper()
	c := &confirmer{asking: newAsking(t), fotor: &fotor{answers: answers}}
	c.answers("app", func(context.Context) dispatch.Result { return dispatch.Result{Status: 204} })
	return c
}

// confirms makes a config with a patience of 10 minutes.
func (c *confirmer) confirms(name string, hold bool) *Config {
	config := c.asks(name, c.fotor)
	config.Rules = c.rules
	config.Asking.Confirm = &Confirm{Patience: 10 * time.Minute, Hold: hold}
	c.record(config)
	return config
}

// record notes what is delivered.
func (c *confirmer) record(config *Config) {
	attempt := config.Destinations[0].Dispatch.Attempt
	config.Destinations[0].Dispatch.Attempt = func(ctx context.Context, l *inbox.Lease) dispatch.Result {
		c.mu.Lock()
		c.bodies = append(c.bodies, string(l.Event.Body))
		c.mu.Unlock()
		return attempt(ctx, l)
	}
}

// call stores a callback with these members beside taskId and type.
func (c *confirmer) call(task, members string) (id string, duplicate bool) {
	c.t.Helper()
	body := `{"taskId":"` + task + `","type":"avatar",` + members + `}`
	parsed, err := callback.Parse([]byte(body), c.rules)
	require.NoError(c.t, err)
	e := parsed.Event(callback.Arrival{At: time.Now(), Source: c.source, Compared: true})
	g, err := c.ref.Hold(c.t.Context())
	require.NoError(c.t, err)
	defer func() { require.NoError(c.t, g.Drop()) }()
	duplicate, err = c.ref.Put(c.t.Context(), g, e, c.source, []byte(body))
	require.NoError(c.t, err)
	return e.ID, duplicate
}

// delivered returns the bodies that were delivered, of which each must have a text.
func (c *confirmer) delivered(texts ...string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Len(c.t, c.bodies, len(texts))
	for i, text := range texts {
		assert.Contains(c.t, c.bodies[i], text)
	}
}

// waits returns how many callbacks wait.
func (c *confirmer) waits() int64 {
	pending, _ := c.deliveries(inbox.ConfirmDestination)
	return pending
}

func (c *confirmer) counted(want ...Confirmation) {
	c.t.Helper()
	c.metrics.mu.Lock()
	defer c.metrics.mu.Unlock()
	assert.Equal(c.t, want, c.metrics.confirmations)
}

// Purge removes a callback that is done.
func (d *trackingDepot) Purge(_ context.Context, id, _ string) error {
	d.tasksMu.Lock()
	defer d.tasksMu.Unlock()
	d.purged = append(d.purged, id)
	return nil
}

func (d *trackingDepot) kept() []*inbox.Suspect {
	d.tasksMu.Lock()
	defer d.tasksMu.Unlock()
	return slices.Clone(d.suspects)
}

func (d *trackingDepot) removed() []string {
	d.tasksMu.Lock()
	defer d.tasksMu.Unlock()
	return slices.Clone(d.purged)
}

func TestAConfirmedCallbackIsDeliveredAsSuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConfirmerOf(t, map[string]string{"a": `"status":1,"resultUrl":"https://h/a","createTime":1`})
		require.NoError(t, c.attach(c.confirms("one", false)))
		id, duplicate := c.call("a", `"status":1,"resultUrl":"https:\/\/h/a","x":2`)
		assert.False(t, duplicate)
		c.delivered() // nothing is, before Fotor has answered
		awhile(time.Second)
		c.delivered(`{"id":"` + id + `","taskId":"a","type":"avatar","status":"completed"`)
		c.delivered(`"extra":{"x":2},"receivedAt":"2000-01-01T00:00:00.000000Z","sourceIp":"192.0.2.1","origin":"callback","confirmed":true,"revision":1}`)
		c.counted(IsConfirmed)
		assert.Zero(t, c.waits())
		waiting, err := inbox.UnconfirmedID(id)
		require.NoError(t, err)
		assert.Equal(t, []string{waiting}, c.tasks.removed())
		assert.Equal(t, []reconcile.Result{reconcile.ResultFinal}, c.fotor.results)

		c.call("b", `"status":0`) // is not asked about
		awhile(time.Second)
		c.delivered("a", `"status":"in_progress"`)
		c.detach(0)
	})
}

func TestIfFotorSaysOtherwiseThatIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConfirmerOf(t, map[string]string{"a": `"status":1,"resultUrl":"https://h/a"`})
		require.NoError(t, c.attach(c.confirms("one", false)))
		c.call("a", `"status":1,"resultUrl":"https://evil/a"`)
		awhile(time.Second)
		c.delivered(`"resultUrl":"https://h/a","avatars":[],"sensitive":false,"extra":{},"receivedAt":"2000-01-01T00:00:00.000000Z","sourceIp":null,"origin":"api","confirmed":null`)
		c.counted(IsContradicted)
		require.Len(t, c.tasks.kept(), 1)
		s := c.tasks.kept()[0]
		assert.Equal(t, "192.0.2.1", s.SourceIP)
		assert.Equal(t, 200, s.Status)
		assert.JSONEq(t, `{"taskId":"a","type":"avatar","status":1,"resultUrl":"https://evil/a"}`, string(s.Body))
		assert.JSONEq(t, `[{"pointer":"/resultUrl","detail":"Fotor's API says otherwise"}]`, string(s.Problems))
		assert.Len(t, c.logs.FilterMessageSnippet("says otherwise than Fotor's API").All(), 1)
		assert.Zero(t, c.waits())
		c.detach(0)
	})
}

func TestWhatFotorDoesNotConfirmGoesToTheQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConfirmerOf(t, map[string]string{"running": `"status":0`})
		require.NoError(t, c.attach(c.confirms("one", false)))
		c.call("running", `"status":1`)
		c.call("unknown", `"status":2`)
		awhile(9 * time.Minute)
		assert.EqualValues(t, 2, c.waits())
		assert.Empty(t, c.tasks.kept())
		awhile(5 * time.Minute)
		c.delivered()
		c.counted(IsRejected, IsRejected)
		require.Len(t, c.tasks.kept(), 2)
		assert.Zero(t, c.waits())
		assert.Equal(t, []string{"running"}, c.tasks.waiting(), "only that task exists: its end is still to come")
		var problems []string
		for _, s := range c.tasks.kept() {
			problems = append(problems, string(s.Problems))
		}
		slices.Sort(problems)
		assert.Equal(t, []string{
			`[{"pointer":"","detail":"Fotor does not confirm it: Fotor's API says: in_progress"}]`,
			`[{"pointer":"","detail":"Fotor does not confirm it: not known yet"}]`,
		}, problems)
		c.detach(0)
	})
}

func TestWithoutQuarantineWhatFotorDoesNotConfirmIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConfirmerOf(t, nil)
		config := c.confirms("one", false)
		config.Policy.Quarantine = 0
		require.NoError(t, c.attach(config))
		c.call("unknown", `"status":2`)
		awhile(15 * time.Minute)
		c.delivered()
		c.counted(IsRejected)
		assert.EqualValues(t, 1, c.depot.queues[inbox.ConfirmDestination].counts[inbox.Dead])
		assert.Empty(t, c.tasks.removed())
		c.detach(0)
	})
}

func TestACallbackOfWhichFotorCannotBeAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConfirmerOf(t, nil)
		c.fotor.err = reconcile.ErrKeyRefused
		require.NoError(t, c.attach(c.confirms("one", false)))
		c.call("a", `"status":1`)
		awhile(9 * time.Minute)
		c.delivered()
		awhile(2 * time.Minute)
		c.delivered(`"origin":"callback","confirmed":false`)
		c.counted(IsUnconfirmed)

		require.NoError(t, c.attach(c.confirms("two", true)))
		c.detach(0)
		c.call("b", `"status":1`)
		awhile(100 * time.Hour)
		c.delivered("a")
		assert.EqualValues(t, 1, c.waits())
		c.detach(0)
	})
}

// Two do not lease from one queue at a time, however quickly configs follow each other.
func TestReloadsLeaseCallbacksOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConfirmerOf(t, map[string]string{"a": `"status":1`})
		require.NoError(t, c.attach(c.confirms("one", false)))
		awhile(time.Second)
		c.depot.change(func() { c.depot.queues[inbox.ConfirmDestination].late = time.Second })
		for range 10 {
			require.NoError(t, c.attach(c.confirms("two", false)))
			awhile(10 * time.Millisecond)
			c.detach(0)
		}
		c.call("a", `"status":1`)
		awhile(time.Second)
		c.delivered(`"confirmed":true`)
		assert.Zero(t, c.logs.FilterMessage("callbacks that wait to be confirmed").Len())
		c.detach(0)
	})
}

// The config that took it accepted one more status number.
func TestACallbackThatIsNotValidAnyMoreGoesToTheQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConfirmerOf(t, map[string]string{"a": `"status":1`})
		rules, err := callback.NewRules(map[int]string{3: "failed"}, nil)
		require.NoError(t, err)
		c.rules, c.fotor.err = rules, reconcile.ErrKeyRefused
		require.NoError(t, c.attach(c.confirms("one", true)))
		c.call("a", `"status":3`)
		awhile(time.Hour)

		c.rules, c.fotor = nil, &fotor{answers: c.fotor.answers}
		require.NoError(t, c.attach(c.confirms("two", true)))
		awhile(time.Second)
		c.delivered()
		require.Len(t, c.tasks.kept(), 1)
		assert.Contains(t, string(c.tasks.kept()[0].Problems), `"pointer":"/status"`)
		assert.Len(t, c.logs.FilterMessageSnippet("is not valid any more").All(), 1)
		assert.Zero(t, c.waits())
		c.detach(0)
		c.detach(0)
	})
}

// What waits when a config comes without confirm does not wait for ever, nor does what an
// older config takes while it ends.
func TestCallbacksThatAnEarlierConfigLeftAreDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConfirmerOf(t, nil)
		c.fotor.err = reconcile.ErrKeyRefused
		require.NoError(t, c.attach(c.confirms("one", true)))
		g, err := c.ref.Hold(t.Context())
		require.NoError(t, err)
		for i := range 3 {
			c.call(fmt.Sprint(i), `"status":1`)
		}
		awhile(time.Hour)
		c.delivered()
		plain := c.config("two", to("app"))
		plain.Storage = c.tasks
		c.record(plain)
		require.NoError(t, c.attach(plain))
		awhile(time.Second)
		c.delivered(`"confirmed":false`, `"confirmed":false`, `"confirmed":false`)
		c.detach(0)
		assert.Zero(t, c.waits())
		require.NoError(t, g.Drop())
		c.detach(0)
	})
}

// Of what Fotor's API has told already it need not be asked again.
func TestACallbackThatTheAPIHasToldIsARepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConfirmerOf(t, nil)
		require.NoError(t, c.attach(c.confirms("one", false)))
		told, err := callback.Parse([]byte(`{"taskId":"a","type":"avatar","status":1,"resultUrl":"https://h/a","x":1}`), nil)
		require.NoError(t, err)
		e := told.Event(callback.Arrival{At: time.Now(), Origin: inbox.FromAPI, Compared: true})
		c.depot.change(func() { c.depot.records = []*inbox.Record{{Event: e}} })
		time.Sleep(time.Second)
		id, duplicate := c.call("a", `"status":1,"resultUrl":"https://h/a"`)
		assert.True(t, duplicate)
		assert.Equal(t, e.ID, id)
		_, duplicate = c.call("a", `"status":1,"resultUrl":"https://h/b"`)
		assert.False(t, duplicate)
		c.detach(0)
	})
}

// The questions go on with the inbox that replaces a broken one.
func TestABrokenInboxIsNotAskedForAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConfirmerOf(t, map[string]string{"a": `"status":1`})
		require.NoError(t, c.attach(c.confirms("one", false)))
		awhile(time.Second)
		broken := c.depot
		c.depot = newDepot()
		c.tasks = &trackingDepot{depot: c.depot, tasks: map[string]time.Time{}}
		config := c.confirms("two", false)
		broken.change(func() { broken.broken = inbox.ErrBroken })
		require.NoError(t, opened.renew(t.Context(), config))
		awhile(time.Second)
		assert.Zero(t, broken.queues[inbox.ConfirmDestination].leasers)
		assert.NotNil(t, c.atts[0].gateway.Asking(), "the running config asks, whatever becomes of the new one")
		c.call("a", `"status":1`)
		awhile(time.Second)
		c.delivered(`"confirmed":true`)
		c.detach(0)
	})
}

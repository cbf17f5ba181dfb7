package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	zaplog "go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/match"
)

// depot is an inbox in memory that one gateway has, with a queue for each destination.
// Closing it keeps what is in it, as a file does.
type depot struct {
	inbox.Inbox // the rest is never called

	mu       sync.Mutex
	changed  chan struct{} // closed with each change
	queues   map[string]*depotQueue
	order    map[string][]string // the destinations of each event, by task
	noQueue  string              // a destination whose queue cannot be opened
	statsErr error
	size     inbox.Stats // with which Stats begins
	each     int64       // bytes that an event takes
	asked    int         // calls of Stats
	broken   error

	compare func(e *inbox.Event) (duplicateOf string, err error) // nil if events are not compared
	records []*inbox.Record                                      // what List returns
	listErr error                                                // of the next call
	lists   int
}

// depotQueue is the queue of one destination.
type depotQueue struct {
	inbox.Holds // not used
	depot       *depot
	due         []*inbox.Event
	leased      map[*inbox.Lease]bool
	attempts    map[*inbox.Event]int
	counts      [len(inbox.States)]int64
	held        inbox.Hold
	holdErr     error
	leasers     int           // that lease at the moment
	late        time.Duration // how long Lease goes on after its context has ended
}

func newDepot() *depot {
	return &depot{changed: make(chan struct{}), queues: map[string]*depotQueue{}, order: map[string][]string{}}
}

func (d *depot) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *depot) Put(_ context.Context, e *inbox.Event) (string, error) {
	var err error
	if d.compare != nil {
		if duplicateOf, err := d.compare(e); err != nil || duplicateOf != "" {
			return duplicateOf, err
		}
	}
	d.change(func() {
		d.size.Bytes += d.each
		for _, name := range e.GoesTo() {
			if d.queues[name] == nil {
				err = fmt.Errorf("destination %q: %w", name, inbox.ErrNotFound)
				return
			}
		}
		d.order[e.TaskID] = slices.Clone(e.Destinations)
		if e.Destinations != nil && d.order[e.TaskID] == nil {
			d.order[e.TaskID] = []string{}
		}
		for _, name := range e.GoesTo() {
			q := d.queues[name]
			q.due = append(q.due, e)
			q.counts[inbox.Pending]++
		}
	})
	return "", err
}

func (d *depot) Queue(_ context.Context, name string) (q inbox.Queue, err error) {
	d.change(func() {
		if name == d.noQueue {
			err = errors.New("no room for a queue")
			return
		}
		if d.queues[name] == nil {
			d.queues[name] = &depotQueue{depot: d, leased: map[*inbox.Lease]bool{}, attempts: map[*inbox.Event]int{}}
		}
		q = d.queues[name]
	})
	return q, err
}

func (d *depot) Stats(context.Context) (s inbox.Stats, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s = d.size
	d.asked++
	for _, name := range slices.Sorted(maps.Keys(d.queues)) {
		s.Destinations = append(s.Destinations, inbox.DestinationStats{Name: name, Deliveries: d.queues[name].counts})
	}
	return s, d.statsErr
}

// List pages through the records. The cursor is the number of those that were looked at.
func (d *depot) List(_ context.Context, f inbox.Filter, p inbox.Page) ([]*inbox.Record, string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lists++
	if err := d.listErr; err != nil {
		d.listErr = nil
		return nil, "", err
	}
	from, _ := strconv.Atoi(p.Cursor)
	var page []*inbox.Record
	for i, r := range d.records[from:] {
		if len(page) == p.Limit {
			return page, strconv.Itoa(from + i), nil
		}
		if at := r.Event.ReceivedAt; !at.Before(f.Since) && (f.Until.IsZero() || at.Before(f.Until)) {
			page = append(page, r)
		}
	}
	return page, "", nil
}

func (d *depot) Broken() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.broken
}

func (d *depot) Suspect(context.Context, int64) (*inbox.Suspect, error) {
	return &inbox.Suspect{ID: 1, SourceIP: "192.0.2.1", Body: []byte("released")}, nil
}

func (*depot) Unquarantine(context.Context, int64) error { return nil }

func (*depot) SetPolicy(inbox.Policy) {}

func (*depot) Close() error { return nil }

func (q *depotQueue) Lease(ctx context.Context, most int) (leases []*inbox.Lease, err error) {
	q.depot.change(func() {
		if q.leasers++; q.leasers > 1 {
			err = errors.New("two lease from one queue")
		}
	})
	defer q.depot.change(func() { q.leasers-- })
	for err == nil {
		var changed chan struct{}
		q.depot.mu.Lock()
		changed = q.depot.changed
		for ; len(leases) < most && len(q.due) > 0; q.due = q.due[1:] {
			l := &inbox.Lease{Event: q.due[0], Attempt: q.attempts[q.due[0]] + 1}
			leases = append(leases, l)
			q.leased[l] = true
		}
		q.depot.mu.Unlock()
		if len(leases) > 0 {
			return leases, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
			time.Sleep(q.late)
		}
	}
	return nil, err
}

func (q *depotQueue) Settle(_ context.Context, outcomes ...inbox.Outcome) error {
	q.depot.change(func() {
		for _, o := range outcomes {
			delete(q.leased, o.Lease)
			switch o.Verdict {
			case inbox.Deliver:
				q.counts[inbox.Pending]--
				q.counts[inbox.Delivered]++
			case inbox.GiveUp:
				q.counts[inbox.Pending]--
				q.counts[inbox.Dead]++
			default:
				q.again(o)
			}
		}
	})
	return nil
}

// again has an event leased again when it is due.
func (q *depotQueue) again(o inbox.Outcome) {
	e := o.Lease.Event
	if o.Verdict == inbox.Retry {
		q.attempts[e]++
	}
	if wait := time.Until(o.Due); wait > 0 {
		time.AfterFunc(wait, func() { q.depot.change(func() { q.due = append(q.due, e) }) })
		return
	}
	q.due = append(q.due, e)
}

func (q *depotQueue) Hold(context.Context) (inbox.Hold, error) {
	q.depot.mu.Lock()
	defer q.depot.mu.Unlock()
	return q.held, q.holdErr
}

func (q *depotQueue) SetHold(_ context.Context, h inbox.Hold) error {
	q.depot.change(func() { q.held = h })
	return nil
}

// crossing is a gateway with configs of several destinations, and the services there.
type crossing struct {
	t       *testing.T
	depot   *depot
	metrics *fakeMetrics
	logs    *zaplog.ObservedLogs
	logger  *zap.Logger
	ref     *Ref
	atts    []*Attachment // as long as they are attached, oldest first

	mu     sync.Mutex
	answer map[string]func(context.Context) dispatch.Result // by destination; none: 204
	taken  map[string]int                                   // attempts, by "config/destination"
	source netip.Addr
}

func newCrossing(t *testing.T) *crossing {
	core, logs := zaplog.New(zap.InfoLevel)
	c := &crossing{
		t: t, depot: newDepot(), metrics: new(fakeMetrics), logs: logs, logger: zap.New(core), ref: NewRef(t.Name()),
		answer: map[string]func(context.Context) dispatch.Result{}, taken: map[string]int{}, source: netip.MustParseAddr("192.0.2.1"),
	}
	t.Cleanup(func() {
		for len(c.atts) > 0 {
			c.detach(0)
		}
		c.ref.Close()
	})
	return c
}

// Open and Apply implement Storage.
func (c *crossing) Open(context.Context, string, inbox.Policy, *zap.Logger) (inbox.Inbox, error) {
	return c.depot, nil
}

func (*crossing) Apply(inbox.Inbox, inbox.Policy) {}

// config makes a config with destinations, each a name and perhaps "=" and a type that
// its events must have.
func (c *crossing) config(name string, destinations ...Destination) *Config {
	for i := range destinations {
		to := destinations[i].Name
		destinations[i].Dispatch = dispatchSettings(func(ctx context.Context, _ *inbox.Lease) dispatch.Result {
			c.mu.Lock()
			c.taken[name+"/"+to]++
			answer := c.answer[to]
			c.mu.Unlock()
			if answer != nil {
				return answer(ctx)
			}
			return dispatch.Result{Status: 204}
		})
	}
	return &Config{
		Name: c.t.Name(), Key: "depot:" + c.t.Name(), Storage: c, Destinations: destinations, Grace: time.Second,
		Logger: c.logger, Metrics: c.metrics, Handler: reconsiders{},
	}
}

// to is a destination for all events, or for those of the types given.
func to(name string, types ...string) Destination {
	d := Destination{Name: name}
	if len(types) > 0 {
		d.Match, _ = match.Compile(&match.Rules{Types: types})
	}
	return d
}

func (c *crossing) attach(config *Config) error {
	c.t.Helper()
	ref := NewRef(c.t.Name())
	ref.journal.running++ // so that no Caddy events are made
	att, err := Attach(c.t.Context(), config, ref)
	if err != nil {
		ref.Close()
		return err
	}
	c.atts = append(c.atts, att)
	return nil
}

// load attaches a config, and detaches the one before, as a reload does.
func (c *crossing) load(name string, destinations ...Destination) {
	c.t.Helper()
	require.NoError(c.t, c.attach(c.config(name, destinations...)))
	if len(c.atts) > 1 {
		c.detach(0)
	}
}

func (c *crossing) detach(i int) {
	c.t.Helper()
	att := c.atts[i]
	c.atts = slices.Delete(c.atts, i, i+1)
	att.Detach()
	require.NoError(c.t, att.Release())
	att.refs[0].Close()
}

// put stores an event of a type, and returns its destinations; nil for the default one.
func (c *crossing) put(task, taskType string) []string {
	c.t.Helper()
	g, err := c.ref.Hold(c.t.Context())
	require.NoError(c.t, err)
	defer func() { require.NoError(c.t, g.Drop()) }()
	e := &inbox.Event{ID: "id-" + task, TaskID: task, Type: taskType, ReceivedAt: time.Now(), Body: []byte(`{"extra":{}}`)}
	_, err = c.ref.Put(c.t.Context(), g, e, c.source, nil)
	require.NoError(c.t, err)
	return e.Destinations
}

// operator returns the gateway as an operator has it.
func (c *crossing) operator() *operated {
	newest := c.atts[len(c.atts)-1]
	return &operated{newest.gateway, newest.config, newest.journal, newest.since}
}

// deliveries returns how many are pending and delivered at a destination.
func (c *crossing) deliveries(name string) (pending, delivered int64) {
	c.depot.mu.Lock()
	defer c.depot.mu.Unlock()
	q := c.depot.queues[name]
	return q.counts[inbox.Pending], q.counts[inbox.Delivered]
}

// visits returns how many attempts a config's destination has had.
func (c *crossing) visits(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken[name]
}

func (c *crossing) answers(name string, answer func(context.Context) dispatch.Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer[name] = answer
}

// reconsiders is a Handler that makes an event of what is released.
type reconsiders struct{}

func (reconsiders) Config() control.Config { return control.Config{} }

func (reconsiders) Bodies() control.Bodies { return control.Bodies{} }

func (reconsiders) Explain(netip.Addr, string) control.Explanation { return control.Explanation{} }

func (reconsiders) Lost(inbox.Task, string, time.Time) *inbox.Event { return nil }

func (reconsiders) Try(context.Context, netip.Addr, []byte) control.Tried { return control.Tried{} }

func (reconsiders) Reconsider(body []byte, at time.Time, _ netip.Addr) (*inbox.Event, error) {
	return &inbox.Event{ID: "id", TaskID: string(body), Type: "video", ReceivedAt: at}, nil
}

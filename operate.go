package fotorwebhook

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/body"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func init() {
	control.Provide(operators{})
}

// operators lets those who operate the gateway find the running handlers.
type operators struct{}

// Names implements control.Provider.
func (operators) Names() []string { return attached.names() }

// Open implements control.Provider.
func (operators) Open(name string) (control.Gateway, error) {
	if h, st := attached.newest(name); st != nil && st.hold() {
		return &operated{Handler: h, station: st}, nil
	}
	return nil, control.ErrNoHandler
}

// operated is a running handler in the hands of an operator.
type operated struct {
	*Handler
	station *station
}

// Inbox implements control.Gateway.
func (o *operated) Inbox() inbox.Inbox { return o.station.inbox }

// Feed implements control.Gateway.
func (o *operated) Feed() *control.Feed { return o.desk.feed }

// Explain implements control.Gateway.
func (o *operated) Explain(peer netip.Addr, forwardedFor string) control.Explanation {
	return o.explain(peer, forwardedFor)
}

// Close implements control.Gateway.
func (o *operated) Close() error { return o.station.drop() }

// summaryTimeout bounds how long an inbox may keep a summary waiting.
const summaryTimeout = 2 * time.Second

// Summary implements control.Gateway.
func (o *operated) Summary(ctx context.Context, recent time.Duration) control.Handler {
	holds := o.station.holds(time.Now())
	s := control.Handler{
		Name:     o.Name,
		Config:   o.configSummary(),
		Bodies:   control.Bodies{Limit: body.RoomLimit(o.MaxBody)},
		Holds:    holds.Holds,
		UnderWay: holds.UnderWay,
		Recent:   o.desk.recent.sum(recent),
		Refusals: o.desk.refusals.list(),
	}
	s.Bodies.Reading, s.Bodies.Bytes = o.desk.bodies.Load()
	ctx, cancel := context.WithTimeout(ctx, summaryTimeout)
	defer cancel()
	stats, err := o.station.inbox.Stats(ctx)
	if err != nil {
		s.Error = err.Error()
		return s
	}
	s.Events = &control.Counts{
		Pending:    stats.Events[inbox.Pending],
		Delivered:  stats.Events[inbox.Delivered],
		Superseded: stats.Events[inbox.Superseded],
		Dead:       stats.Events[inbox.Dead],
	}
	if !stats.OldestPending.IsZero() {
		oldest := stats.OldestPending.UTC()
		s.OldestPending = &oldest
	}
	if !stats.LostAt.IsZero() {
		at := stats.LostAt.UTC()
		s.Lost, s.LostAt = stats.Lost, &at
	}
	s.Quarantined, s.InboxBytes, s.InboxLimit = &stats.Quarantined, &stats.Bytes, &stats.MaxBytes
	return s
}

// configSummary is the config without what is or may hold a secret: of the
// forward's URL only its scheme and host, since a path or query may be one.
func (h *Handler) configSummary() control.Config {
	return control.Config{
		Allow:       append([]string{}, h.Allow...),
		AllowFrom:   append([]string{}, h.whitelist.moduleNames()...),
		MaxBody:     h.MaxBody,
		Inbox:       h.inboxName,
		Storage:     h.key,
		Keep:        time.Duration(h.Keep).String(),
		Quarantine:  *h.Quarantine,
		Forward:     h.forwarder.Target(),
		SignSecrets: len(h.Sign),
		Timeout:     time.Duration(h.Timeout).String(),
		Concurrency: h.Concurrency,
		RetryFirst:  time.Duration(h.Retry.First).String(),
		RetryMax:    time.Duration(h.Retry.Max).String(),
		GiveUp:      time.Duration(h.Retry.GiveUp).String(),
	}
}

// Hold implements control.Gateway. The inbox remembers the hold before
// deliveries stop: one that would not survive a restart is not begun.
func (o *operated) Hold(ctx context.Context, reason string, until time.Time) error {
	o.station.byHand.Lock()
	defer o.station.byHand.Unlock()
	now := time.Now().UTC().Truncate(time.Microsecond)
	before, err := o.station.inbox.Hold(ctx)
	if err != nil {
		return err
	}
	hold := inbox.Hold{Since: now, Until: until.UTC().Truncate(time.Microsecond), Reason: reason}
	if before.InForce(now) {
		hold.Since = before.Since
	}
	if err := o.station.inbox.SetHold(ctx, hold); err != nil {
		return err
	}
	o.station.known = hold
	o.station.running().Pause(hold)
	return nil
}

// Resume implements control.Gateway.
func (o *operated) Resume(ctx context.Context) error {
	o.station.byHand.Lock()
	defer o.station.byHand.Unlock()
	now := time.Now().UTC()
	hold, err := o.station.inbox.Hold(ctx)
	if err != nil {
		return err
	}
	if hold.InForce(now) {
		hold.Ended = now
		if err := o.station.inbox.SetHold(ctx, hold); err != nil {
			return err
		}
		o.station.known = hold
	}
	o.station.running().Resume()
	return nil
}

// Release implements control.Gateway. The event is stored before the callback
// leaves the quarantine, so that a crash between the two loses nothing; the
// event that a second release makes has the same id.
func (o *operated) Release(ctx context.Context, id int64) (control.Released, error) {
	suspect, err := o.station.inbox.Suspect(ctx, id)
	if err != nil {
		return control.Released{}, err
	}
	parsed, refused := judgeBody(suspect.Body, o.rules)
	if refused != nil {
		problems := make([]control.Problem, 0, len(refused.grounds()))
		for _, p := range refused.grounds() {
			problems = append(problems, control.Problem{Pointer: p.Pointer, Detail: p.Detail})
		}
		return control.Released{}, &control.InvalidError{Status: refused.status, Problems: problems}
	}
	source, err := netip.ParseAddr(suspect.SourceIP)
	if err != nil {
		return control.Released{}, fmt.Errorf("the address of quarantined callback %d: %w", id, err)
	}
	event := parsed.Event(suspect.ReceivedAt, source)
	duplicate, err := o.put(ctx, o.station, event, source)
	if err != nil {
		return control.Released{}, err
	}
	err = o.station.inbox.Unquarantine(ctx, id)
	if errors.Is(err, inbox.ErrNotFound) {
		err = nil // somebody else released it at the same time
	}
	return control.Released{ID: event.ID, Duplicate: duplicate}, err
}

// Holds implements control.Gateway.
func (o *operated) Holds() control.Holds { return o.station.holds(time.Now()) }

// holds returns why deliveries are held, and how many attempts are being made. The
// end of a pause is told as long as it is to come.
func (st *station) holds(now time.Time) control.Holds {
	dispatcher := st.running()
	reasons := dispatcher.Holds()
	holds := make([]control.Hold, 0, len(reasons))
	for _, h := range reasons {
		hold := control.Hold{By: holder(h), Since: h.Since.UTC(), Reason: h.Reason}
		if h.Until.After(now) {
			until := h.Until.UTC()
			hold.Until = &until
		}
		holds = append(holds, hold)
	}
	return control.Holds{Holds: holds, UnderWay: dispatcher.UnderWay()}
}

// names lists the names of the running handlers in alphabetical order.
func (r *registry) names() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names := make([]string, 0, len(r.byName))
	for name := range r.byName {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// newest returns the newest handler of that name that runs with its station,
// nil if there is none.
func (r *registry) newest(name string) (*Handler, *station) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if atts := r.byName[name]; len(atts) > 0 {
		att := atts[len(atts)-1]
		return att.handler, att.station
	}
	return nil, nil
}

// Interface guards
var (
	_ control.Provider = operators{}
	_ control.Gateway  = (*operated)(nil)
)

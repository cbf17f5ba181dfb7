package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Provider finds the running handlers for package control.
type Provider struct{ Surveyors Surveyors }

// Names implements control.Provider.
func (Provider) Names() []string { return attached.names() }

// Open implements control.Provider.
func (Provider) Open(name string) (control.Gateway, error) {
	if att, g := attached.newest(name); g != nil && g.hold() {
		return &operated{gateway: g, config: att.config, journal: att.journal, since: att.since}, nil
	}
	return nil, control.ErrNoHandler
}

// Unattended implements control.Provider.
func (p Provider) Unattended(ctx context.Context) ([]control.Unattended, bool) {
	found, more, _ := unattended.survey(ctx, p.Surveyors)
	return found, more
}

// operated is a running handler that an operator uses.
type operated struct {
	gateway *Gateway
	config  *Config
	journal *Journal
	since   time.Time // when the config was loaded
}

// Inbox implements control.Gateway.
func (o *operated) Inbox() inbox.Inbox { return o.gateway.inbox }

// History implements control.Gateway.
func (o *operated) History(span string) control.History {
	return o.journal.past.over(span, o.config.destinationNames())
}

// Feed implements control.Gateway.
func (o *operated) Feed() *control.Feed { return o.journal.feed }

// Explain implements control.Gateway.
func (o *operated) Explain(peer netip.Addr, forwardedFor string) control.Explanation {
	return o.config.Handler.Explain(peer, forwardedFor)
}

// Try implements control.Gateway.
func (o *operated) Try(ctx context.Context, client netip.Addr, body []byte) control.Tried {
	return o.config.Handler.Try(ctx, client, body)
}

// Close implements control.Gateway.
func (o *operated) Close() error { return o.gateway.Drop() }

// summaryTimeout bounds how long an inbox may delay a summary.
const summaryTimeout = 2 * time.Second

// Summary implements control.Gateway.
func (o *operated) Summary(ctx context.Context, recent time.Duration) control.Handler {
	holds := o.Holds()
	s := control.Handler{
		Name:     o.config.Name,
		Config:   o.config.Handler.Config(),
		Bodies:   o.config.Handler.Bodies(),
		Holds:    holds.Holds,
		UnderWay: holds.UnderWay,
		Pressure: holds.Pressure,
		Recent:   o.journal.recent.sum(recent),
		Refusals: o.journal.refusals.list(),
		Asking:   o.gateway.Asking(),

		ConfigLoaded: o.since.UTC(),
		LastMinute:   o.journal.recent.lastMinute(),
		LastCallback: o.journal.recent.lastCallback(),
	}
	ctx, cancel := context.WithTimeout(ctx, summaryTimeout)
	defer cancel()
	stats, err := o.gateway.inbox.Stats(ctx)
	if err != nil {
		s.Destinations = o.gateway.Destinations(o.config, nil)
		s.Error = err.Error()
		return s
	}
	s.Destinations = o.gateway.Destinations(o.config, &stats)
	s.Events = countsOf(&stats.Events)
	if !stats.OldestPending.IsZero() {
		oldest := stats.OldestPending.UTC()
		s.OldestPending = &oldest
	}
	if !stats.LostAt.IsZero() {
		at := stats.LostAt.UTC()
		s.Lost, s.LostAt = stats.Lost, &at
	}
	s.Quarantined, s.InboxBytes, s.InboxLimit = &stats.Quarantined, &stats.Bytes, &stats.MaxBytes
	if s.Tasks, err = o.taskStats(ctx); err != nil {
		s.Error = err.Error()
	}
	return s
}

func countsOf(n *[len(inbox.States)]int64) *control.Counts {
	return &control.Counts{
		Pending:    n[inbox.Pending],
		Delivered:  n[inbox.Delivered],
		Superseded: n[inbox.Superseded],
		Dead:       n[inbox.Dead],
		Skipped:    n[inbox.Skipped],
	}
}

// Release implements control.Gateway. The event is stored before the callback
// leaves the quarantine, so that a crash between the two loses nothing; the
// event that a second release makes has the same id.
func (o *operated) Release(ctx context.Context, id int64) (control.Released, error) {
	suspect, err := o.gateway.inbox.Suspect(ctx, id)
	if err != nil {
		return control.Released{}, err
	}
	var source netip.Addr // of nobody, if Fotor was asked
	if suspect.SourceIP != "" {
		if source, err = netip.ParseAddr(suspect.SourceIP); err != nil {
			return control.Released{}, fmt.Errorf("the address of quarantined callback %d: %w", id, err)
		}
	}
	event, err := o.config.Handler.Reconsider(suspect.Body, suspect.ReceivedAt, source)
	if err != nil {
		return control.Released{}, err
	}
	duplicate, err := o.journal.put(ctx, o.gateway, event, source)
	if err != nil {
		return control.Released{}, err
	}
	err = o.gateway.inbox.Unquarantine(ctx, id)
	if errors.Is(err, inbox.ErrNotFound) {
		err = nil // another request released it at the same time
	}
	return control.Released{ID: event.ID, Duplicate: duplicate}, err
}

// current returns the newest config of the handler: a long request may have outlived the one
// with which it began.
func (o *operated) current() *Config {
	if att, _ := attached.newest(o.config.Name); att != nil {
		return att.config
	}
	return o.config
}

// Destinations implements control.Gateway.
func (o *operated) Destinations() []string { return o.current().destinationNames() }

// Copy implements control.Gateway.
func (o *operated) Copy(e *inbox.Event, destination string) map[string]string {
	d := o.current().destination(destination)
	if d == nil {
		return nil
	}
	return d.Copy(e)
}

// Interface guards
var (
	_ control.Provider = Provider{}
	_ control.Gateway  = (*operated)(nil)
)

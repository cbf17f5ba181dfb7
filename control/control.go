// Package control is the interface to a running gateway for those who operate it: the
// admin API, the command line, a dashboard. The handlers implement it, so that none
// of these depends on how a handler is built. It does not depend on Caddy.
//
// Read the files in this order:
//   - control.go: finding a handler, and what can be asked of it
//   - params.go: what requests to the admin API and its clients have in common
//   - lookup.go, quarantine_groups.go: events and quarantined callbacks, looked up
//   - change.go, release.go: the same, changed
//   - handlers.go, answers.go, destinations.go, find.go, recent.go, history.go, pressure.go,
//     tasks.go, backup.go: the answers of the admin API
//   - tracking.go: tasks whose final events have not come
//   - feed.go: following what happens; notice_json.go: a notice as JSON
package control

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// ErrNoHandler is returned if no running handler has that name.
var ErrNoHandler = errors.New("no running fotor_webhook handler has this name")

// Gateway is one running handler. It stays usable, over reloads too, until it
// is closed, and keeps the handler's inbox open until then.
type Gateway interface {
	// Summary returns how the handler is doing, and what has arrived within the given
	// time, RecentMin to RecentMax. What it could not find out is nil, and why is in
	// Handler.Error.
	Summary(ctx context.Context, recent time.Duration) Handler

	// History returns what has happened within one of HistorySpans.
	History(span string) History

	// Holds returns why deliveries are held, how many attempts are being made, and how
	// much the destinations get.
	Holds() Holds

	// Destinations returns the names of the destinations of the config, in order.
	Destinations() []string

	// Copy returns the header of the request with which the destination would get an
	// event now for the first time, signed as those are, and marked as a copy. Nothing is
	// sent or recorded. It is nil if the config has no such destination.
	Copy(e *inbox.Event, destination string) map[string]string

	// Inbox returns the handler's inbox.
	Inbox() inbox.Inbox

	// Hold stops deliveries to a destination by hand, or to all with "", until Resume,
	// or until the given time if that is not zero. It survives a restart. It replaces a
	// hold that is in force, but keeps the time at which that began. A destination that
	// the config does not name is inbox.ErrNotFound.
	Hold(ctx context.Context, destination, reason string, until time.Time) error

	// Resume ends the hold by hand of a destination, or of all with "". Those in
	// trouble are tried at once.
	Resume(ctx context.Context, destination string) error

	// Release validates a quarantined callback again. If it is valid now, it is
	// accepted and removed from the quarantine; otherwise the error is an
	// *InvalidError. If there is no such callback, it is inbox.ErrNotFound.
	Release(ctx context.Context, id int64) (Released, error)

	// Asking reports whether Fotor is asked for tasks whose final events do not come: the
	// handler has a fotor_api.
	Asking() bool

	// Track has Fotor asked for tasks, given by its ids, until their final events have
	// come, and returns once they are on stable storage. Those that are tracked already
	// stay as they are. Bad ids are a *TaskIDsError; nothing is tracked then. It may also
	// be ErrNotAsking, ErrNotTracking, or an error of the inbox.
	Track(ctx context.Context, source inbox.TaskSource, ids ...string) (Tracked, error)

	// Explain returns whether a caller would be let in, and why. The caller is given by
	// the peer of the connection and, unless empty, the value of the header in which
	// proxies record whom they forward for.
	Explain(peer netip.Addr, forwardedFor string) Explanation

	// Try has the handler take a body as the callback of a client with that address,
	// which is judged as any other: a callback that is accepted is stored and delivered,
	// and what is answered is counted. The zero address is one that is not known.
	Try(ctx context.Context, client netip.Addr, body []byte) Tried

	// Feed returns the feed of what happens.
	Feed() *Feed

	// Close ends the use of the handler.
	Close() error
}

// Tried is what a callback was answered that an operator has tried.
type Tried struct {
	Status int
	Media  string // the Content-Type
	Body   []byte
}

// Provider finds the running handlers.
type Provider interface {
	// Names lists them in alphabetical order.
	Names() []string

	// Open returns one of them, or ErrNoHandler. The caller must close it.
	Open(name string) (Gateway, error)

	// Unattended lists the known inboxes that hold something and have no handler, at
	// most MaxUnattended. more is true if there may be others.
	Unattended(ctx context.Context) (found []Unattended, more bool)
}

var provider atomic.Value // of Provider

// Provide sets the Provider. It is called once, at init.
func Provide(p Provider) { provider.Store(&p) }

// Names lists the running handlers in alphabetical order.
func Names() []string {
	if p, ok := provider.Load().(*Provider); ok {
		return (*p).Names()
	}
	return nil
}

// Inboxes lists the known inboxes that hold something and have no handler. more is true
// if there may be others.
func Inboxes(ctx context.Context) (unattended []Unattended, more bool) {
	if p, ok := provider.Load().(*Provider); ok {
		return (*p).Unattended(ctx)
	}
	return []Unattended{}, false
}

// Open returns the running handler of that name, or ErrNoHandler. The caller
// must close it.
func Open(name string) (Gateway, error) {
	if p, ok := provider.Load().(*Provider); ok {
		return (*p).Open(name)
	}
	return nil, ErrNoHandler
}

// InvalidError is returned if a quarantined callback is still not valid.
type InvalidError struct {
	// Status is what a caller would be answered today: 400, 415 or 422.
	Status   int
	Problems []Problem
}

// Error implements error. The problems stand beside it wherever it is shown.
func (e *InvalidError) Error() string {
	return "the callback is not valid under today's rules either"
}

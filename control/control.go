// Package control is what those who operate a running gateway may ask of it:
// the admin API, the command line, a dashboard. The handlers provide it, so
// that none of these needs to know how a handler is built.
//
// It knows nothing of Caddy.
package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// ErrNoHandler says that no running handler has that name.
var ErrNoHandler = errors.New("no running fotor_webhook handler has this name")

// Gateway is one running handler. It stays usable, over reloads too, until it
// is closed, and keeps the handler's inbox open until then.
type Gateway interface {
	// Summary says how the handler is doing, and what has arrived since so long
	// ago, RecentMin to RecentMax. What it could not find out is nil, and in the
	// answer's Error.
	Summary(ctx context.Context, recent time.Duration) Handler

	// Holds says why deliveries are held, and how many attempts are being made.
	Holds() Holds

	// Inbox is where the handler's events are.
	Inbox() inbox.Inbox

	// Hold stops deliveries by hand until Resume, or until the given time if
	// that is not zero. It survives a restart. A hold that is in force is
	// replaced; the time when it began stays.
	Hold(ctx context.Context, reason string, until time.Time) error

	// Resume ends a hold by hand. A destination in trouble is tried at once.
	Resume(ctx context.Context) error

	// Release validates a quarantined callback again, and if it is valid now,
	// accepts it and takes it out of the quarantine. Otherwise the error is an
	// *InvalidError. It returns inbox.ErrNotFound if there is none.
	Release(ctx context.Context, id int64) (Released, error)

	// Explain says whether a caller would be let in, and why. The caller is the
	// peer of the connection with, if it is not empty, the value of the header
	// in which proxies note whom they forward for.
	Explain(peer netip.Addr, forwardedFor string) Explanation

	// Feed tells what happens, as it happens.
	Feed() *Feed

	// Close gives the use of the handler back.
	Close() error
}

// Provider knows the running handlers.
type Provider interface {
	// Names lists them in alphabetical order.
	Names() []string

	// Open returns one of them, or ErrNoHandler. The caller must close it.
	Open(name string) (Gateway, error)

	// Unattended lists the inboxes that are known, hold something and have no
	// handler, at most MaxUnattended; more reports that there may be others.
	Unattended(ctx context.Context) (found []Unattended, more bool)
}

var provider atomic.Value // of Provider

// Provide says who knows the running handlers. It is called once, at init.
func Provide(p Provider) { provider.Store(&p) }

// Names lists the running handlers in alphabetical order.
func Names() []string {
	if p, ok := provider.Load().(*Provider); ok {
		return (*p).Names()
	}
	return nil
}

// Inboxes lists the inboxes that hold something and have no handler; more reports
// that there may be others.
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

// InvalidError says that a quarantined callback is still not valid.
type InvalidError struct {
	// Status is what a caller would be answered: 400, 415 or 422.
	Status   int
	Problems []Problem
}

// Error implements error.
func (e *InvalidError) Error() string {
	return fmt.Sprintf("the callback is not valid under today's rules either: %d problems", len(e.Problems))
}

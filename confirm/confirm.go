// Package confirm asks Fotor whether it says what a final callback says, before the callback's
// event is delivered.
//
// Config (this file) is what it works with. Each callback waits in a queue of the inbox, in
// the order of its task, and Run leases it. window.go has those that are leased and wait for a question,
// lease.go fills it, answers.go remembers what Fotor has answered, ask.go asks and does with the answer what it means, and settle.go ends
// the leases.
//
// It depends on neither HTTP nor Caddy.
package confirm

import (
	"context"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/reconcile"
)

// Default is how long a callback may wait, unless the config says otherwise.
const Default = 10 * time.Minute

// Asker puts questions to Fotor.
type Asker interface {
	// Next waits until the next question may be put. It returns nil when ctx has ended.
	Next(ctx context.Context) *reconcile.Question

	// State returns whether Fotor can be asked.
	State() reconcile.State
}

// Events makes events of callbacks, and stores them. Each method returns once that is on
// stable storage, and may be called again for the same callback.
type Events interface {
	// Take compares a callback with what Fotor has answered. If the answer is final, it
	// stores the event that is to be delivered: that of the callback if both say the same,
	// and otherwise that of the answer. The text says in short what was answered.
	Take(ctx context.Context, kept *inbox.Event, answer []byte) (m reconcile.Meaning, text string, err error)

	// Unconfirmed stores the event of a callback of which Fotor could not be asked.
	Unconfirmed(ctx context.Context, kept *inbox.Event) error

	// Reject keeps a callback in quarantine that Fotor does not confirm. known says that
	// Fotor knows the task, so that its end is still to be asked for. It reports false if no
	// callbacks are kept there: then the callback stays where it is, as dead.
	Reject(ctx context.Context, kept *inbox.Event, known bool, why string) (inQuarantine bool, err error)

	// Remove removes a callback of which that is done.
	Remove(ctx context.Context, kept *inbox.Event) error
}

// Config is what a Confirmer works with.
type Config struct {
	Queue  inbox.Leaser
	Events Events

	// Fotor is asked; nil if it is not to be asked any more: then every callback is
	// delivered as one that could not be confirmed.
	Fotor Asker

	// Patience is how long Fotor is asked for a callback: then it is rejected if the task
	// has not ended, or is not known.
	Patience time.Duration

	// Hold says that callbacks wait for as long as Fotor cannot be asked. Otherwise they
	// are delivered after Patience, as ones that could not be confirmed.
	Hold bool

	// Since is when the gateway began to ask: the time before does not count as patience.
	Since time.Time

	// Asked is called after each question that Fotor has answered, with how often it was
	// asked before, and what the answer came to. It must not block.
	Asked func(taskID string, before int, r reconcile.Result, took time.Duration)

	// Failed is called if the inbox fails. It must not block.
	Failed func(error)
}

// Confirmer asks for callbacks.
type Confirmer struct {
	config Config
	picker inbox.Picker // nil if the queue cannot lease out of turn

	mu      sync.Mutex
	window  window
	answers answers
	changed chan struct{} // closed, and made anew, when the window has changed
}

// New returns a Confirmer, which does nothing before Run.
func New(c Config) *Confirmer {
	picker, _ := c.Queue.(inbox.Picker)
	return &Confirmer{config: c, picker: picker, changed: make(chan struct{})}
}

// Run asks until ctx ends. It returns when nothing of it uses the inbox any more: callbacks
// that wait then are due again.
func (c *Confirmer) Run(ctx context.Context) {
	var parts sync.WaitGroup
	parts.Go(func() { c.lease(ctx) })
	parts.Go(func() { c.expire(ctx) })
	if c.config.Fotor != nil {
		parts.Go(func() { c.ask(ctx) })
	}
	parts.Wait()
	c.giveBack(context.WithoutCancel(ctx), 0)
}

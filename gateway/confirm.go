package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/confirm"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/logfield"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
	"github.com/fotor-webhook/caddy-fotor-webhook/reconcile"
)

// Confirm is how final callbacks are confirmed before their events are delivered.
type Confirm struct {
	Patience time.Duration
	Hold     bool // callbacks wait for as long as Fotor cannot be asked
}

// Confirmation is what asking Fotor for a final callback came to. There is a fixed number of
// them, because they label a metric.
type Confirmation string

// The confirmations.
const (
	IsConfirmed    Confirmation = "confirmed"    // Fotor says the same
	IsContradicted Confirmation = "contradicted" // Fotor says otherwise: that is delivered
	IsRejected     Confirmation = "rejected"     // Fotor says that the task has not ended, or does not know it
	IsUnconfirmed  Confirmation = "unconfirmed"  // Fotor could not be asked: it is delivered all the same
)

// Confirmations are all of them.
var Confirmations = []Confirmation{IsConfirmed, IsContradicted, IsRejected, IsUnconfirmed}

// confirms returns how final callbacks are confirmed, nil if they are not.
func (c *Config) confirms() *Confirm {
	if c == nil || c.Asking == nil {
		return nil
	}
	return c.Asking.Confirm
}

// confirming asks Fotor for the callbacks of a gateway that wait to be confirmed, or, after
// a config without that, delivers those that are left, as unconfirmed ones.
type confirming struct {
	gateway *Gateway
	att     *Attachment
	config  *Config
	asker   *asker // nil if Fotor is not to be asked
	before  *asker // whose leases come first; nil if there is none
}

// Failures of the inbox are logged so many at once, and then at this pace.
const (
	confirmFaultsAtOnce = 5
	confirmFaultsEvery  = 10 * time.Second
)

// newConfirmer returns a Confirmer, which does nothing before Run.
func (c *confirming) newConfirmer(ctx context.Context) (*confirm.Confirmer, error) {
	queue, err := c.gateway.inbox.Queue(ctx, inbox.ConfirmDestination)
	if err != nil {
		return nil, err
	}
	faults := rate.NewLimiter(rate.Every(confirmFaultsEvery), confirmFaultsAtOnce)
	config := confirm.Config{
		Queue: queue, Events: c, Since: c.gateway.since,
		Asked: func(string, int, reconcile.Result, time.Duration) {},
		Failed: func(err error) {
			if faults.Allow() {
				c.config.Logger.Error("callbacks that wait to be confirmed", zap.Error(err))
			}
		},
	}
	if c.asker != nil {
		how := c.config.Asking.Confirm
		config.Fotor, config.Patience, config.Hold = c.asker.reconciler, how.Patience, how.Hold
		config.Asked = func(taskID string, before int, r reconcile.Result, took time.Duration) {
			c.asker.Asked(inbox.Task{ID: taskID, Asked: before}, r, took, nil)
		}
	}
	return confirm.New(config), nil
}

// queueRetry is the pause until the queue of callbacks that wait is looked for again, after
// the inbox could not be read.
const queueRetry = 5 * time.Second

// run asks until ctx ends. It begins when the config before does not lease any more: one
// goroutine at a time may.
func (c *confirming) run(ctx context.Context) {
	if c.before != nil {
		<-c.before.ended // it was cancelled; and who waits behind this one waits for it, too
		c.before = nil   // else each would keep the one before
	}
	for ctx.Err() == nil {
		confirmer, err := c.newConfirmer(ctx)
		if err == nil {
			confirmer.Run(ctx)
			return
		}
		if ctx.Err() == nil {
			c.config.Logger.Error("callbacks wait to be confirmed, but cannot be read", zap.Error(err))
		}
		sleep.For(ctx, queueRetry)
	}
}

// deliverLeft delivers what callbacks wait to be confirmed though the config does not want
// that any more, until ctx ends.
func (c *confirming) deliverLeft(ctx context.Context) {
	for {
		stats, err := c.gateway.inbox.Stats(ctx)
		switch {
		case err == nil && waitingIn(&stats) > 0:
			c.config.Logger.Warn("callbacks waited to be confirmed, and the config does not want that any more: they are delivered as not confirmed",
				zap.Int64("callbacks", waitingIn(&stats)))
			c.run(ctx)
			return
		case err == nil:
			select {
			case <-c.gateway.detached:
			case <-ctx.Done():
				return
			}
		case !sleep.For(ctx, queueRetry):
			return
		}
	}
}

// waitingIn returns how many callbacks wait to be confirmed.
func waitingIn(stats *inbox.Stats) int64 {
	for i := range stats.Destinations {
		if stats.Destinations[i].Name == inbox.ConfirmDestination {
			return stats.Destinations[i].Deliveries[inbox.Pending]
		}
	}
	return 0
}

// Take implements confirm.Events.
func (c *confirming) Take(ctx context.Context, kept *inbox.Event, answer []byte) (reconcile.Meaning, string, error) {
	k, err := c.read(ctx, kept)
	if k == nil {
		return reconcile.Final, "", err
	}
	told, meaning, text, err := c.asker.read(ctx, k.TaskID, answer)
	if meaning != reconcile.Final || err != nil {
		return meaning, text, err
	}
	api, err := callback.Parse(answer, c.config.Rules)
	if err != nil {
		return 0, "", err
	}
	problems := k.Contradictions(api)
	if len(problems) == 0 {
		return reconcile.Final, text, c.put(ctx, k.Event(callback.Confirmed), k.Source, IsConfirmed)
	}
	told.TraceParent, told.TraceState = kept.TraceParent, kept.TraceState
	if _, err := c.att.journal.put(ctx, c.gateway, told, netip.Addr{}); err != nil {
		return 0, "", err
	}
	if _, err := c.quarantine(ctx, kept, k, "Fotor's API says otherwise", problems); err != nil {
		return 0, "", err
	}
	c.count(IsContradicted)
	c.config.Logger.Warn("a callback says otherwise than Fotor's API, whose answer is delivered",
		logfield.Event(told, zap.Stringer("source_ip", k.Source), logfield.Problems(problems))...)
	return reconcile.Final, text, nil
}

// Unconfirmed implements confirm.Events.
func (c *confirming) Unconfirmed(ctx context.Context, kept *inbox.Event) error {
	k, err := c.read(ctx, kept)
	if k == nil {
		return err
	}
	return c.put(ctx, k.Event(callback.Unconfirmed), k.Source, IsUnconfirmed)
}

// Reject implements confirm.Events.
func (c *confirming) Reject(ctx context.Context, kept *inbox.Event, known bool, why string) (inQuarantine bool, err error) {
	k, err := c.read(ctx, kept)
	if k == nil {
		return true, err
	}
	if known { // or its end might never be asked for
		now := time.Now().UTC().Truncate(time.Microsecond)
		task := inbox.Task{ID: k.TaskID, Source: inbox.FromNotice, Since: now, Due: now.Add(c.config.askAfter())}
		if _, err := c.gateway.inbox.(inbox.Tracker).Track(ctx, task); err != nil && task.Check() == nil {
			return false, fmt.Errorf("tracking task %.80q: %w", k.TaskID, err)
		}
	}
	problems := []callback.Problem{{Detail: logfield.Cut("Fotor does not confirm it: " + why)}}
	inQuarantine, err = c.quarantine(ctx, kept, k, "Fotor's API does not confirm the callback", problems)
	if err != nil {
		return false, err
	}
	c.count(IsRejected)
	c.config.Logger.Warn("a callback is not confirmed by Fotor's API and is not delivered", logfield.Event(kept,
		zap.Stringer("source_ip", k.Source), zap.String("answer", logfield.Cut(why)), zap.Bool("quarantined", inQuarantine))...)
	return inQuarantine, nil
}

// Remove implements confirm.Events.
func (c *confirming) Remove(ctx context.Context, kept *inbox.Event) error {
	return c.gateway.inbox.Purge(ctx, kept.ID, "")
}

// read returns a callback. It returns nil, with or without an error, if there is nothing more
// to be done: what is no callback by the rules of now is in quarantine.
func (c *confirming) read(ctx context.Context, kept *inbox.Event) (*callback.Kept, error) {
	k, err := callback.ReadKept(kept, c.config.Rules)
	if err == nil {
		return k, nil
	}
	problems := []callback.Problem{{Detail: logfield.Cut(err.Error())}}
	if invalid, ok := errors.AsType[*callback.InvalidError](err); ok {
		problems = invalid.Problems
	}
	if k == nil {
		k = &callback.Kept{Body: kept.Body}
	}
	inQuarantine, err := c.quarantine(ctx, kept, k, "the callback is not valid any more", problems)
	if err == nil {
		c.config.Logger.Error("a callback that waited to be confirmed is not valid any more, and is not delivered",
			logfield.Event(kept, logfield.Problems(problems), zap.Bool("quarantined", inQuarantine))...)
	}
	return nil, err
}

// put stores the event of a callback.
func (c *confirming) put(ctx context.Context, e *inbox.Event, source netip.Addr, as Confirmation) error {
	duplicate, err := c.att.journal.put(ctx, c.gateway, e, source)
	if err != nil {
		return err
	}
	c.count(as)
	fields := logfield.Event(e, zap.Bool("duplicate", duplicate))
	if as == IsConfirmed {
		c.config.Logger.Info("callback confirmed", fields...)
	} else {
		c.config.Logger.Warn("callback not confirmed, as Fotor cannot be asked; it is delivered all the same", fields...)
	}
	return nil
}

func (c *confirming) count(as Confirmation) { c.config.Metrics.Confirmation(as) }

// quarantine keeps a callback that is not delivered. It reports false if the config wants none
// to be kept, or if it is too large.
func (c *confirming) quarantine(ctx context.Context, kept *inbox.Event, k *callback.Kept, reason string, problems []callback.Problem) (bool, error) {
	if c.config.Policy.Quarantine == 0 {
		return false, nil
	}
	text, err := json.Marshal(problems)
	if err != nil {
		return false, err
	}
	suspect := &inbox.Suspect{ReceivedAt: kept.ReceivedAt, Status: http.StatusOK, Problems: text, Body: k.Body}
	if k.Source.IsValid() {
		suspect.SourceIP = k.Source.String()
	}
	err = c.gateway.inbox.Quarantine(ctx, suspect)
	if errors.Is(err, inbox.ErrTooLarge) { // it will never be kept
		c.att.journal.tooLarge(c.config.Logger, err)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("keeping a callback in quarantine: %w", err)
	}
	c.att.journal.Quarantined(suspect, k.Source, reason, len(problems))
	return true, nil
}

// Interface guards
var (
	_ confirm.Events = (*confirming)(nil)
	_ confirm.Asker  = (*reconcile.Reconciler)(nil)
)

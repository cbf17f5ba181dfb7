package gateway

import (
	"context"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/match"
)

// Config is the part of a handler's config that its gateway needs. Every field is
// required, except for Asking. It must not be changed once it is attached.
type Config struct {
	// Name is the handler's name. The journal has the same.
	Name string

	// Key names the storage of the inbox. Configs with the same key use the same
	// gateway.
	Key string

	// Storage opens the inbox.
	Storage Storage

	// Policy is what the inbox keeps, and for how long.
	Policy inbox.Policy

	// Destinations are where events go, at least one and at most
	// inbox.MaxDestinations, in the order of their names.
	Destinations []Destination

	// Asking is how Fotor is asked for tasks; nil if it is not.
	Asking *Asking

	// Grace is how long attempts under way may take when deliveries stop.
	Grace time.Duration

	// Rules are those of the format of callbacks.
	Rules *callback.Rules

	Logger  *zap.Logger
	Metrics Metrics
	Events  Emitter
	Handler Handler
}

// Destination is where events go.
type Destination struct {
	Name string

	// Match tells which events go there; nil for all.
	Match *match.Matcher

	// Copy returns the header of a copy of an event, as the destination would get it now.
	Copy func(e *inbox.Event) map[string]string

	// Dispatch says how they are delivered. Its Observer is the gateway's.
	Dispatch dispatch.Settings
}

// destination returns the destination of that name, nil if the config has none.
func (c *Config) destination(name string) *Destination {
	for i := range c.Destinations {
		if c.Destinations[i].Name == name {
			return &c.Destinations[i]
		}
	}
	return nil
}

// askAfter returns how long after a task became known Fotor is asked for it first; 0 if it
// is never asked.
func (c *Config) askAfter() time.Duration {
	if c.Asking == nil {
		return 0
	}
	return c.Asking.Schedule.After
}

func (c *Config) destinationNames() []string {
	names := make([]string, 0, len(c.Destinations))
	for i := range c.Destinations {
		names = append(names, c.Destinations[i].Name)
	}
	return names
}

// Storage is where an inbox is stored. See caddymodule.Inbox, which promises more.
type Storage interface {
	Open(ctx context.Context, name string, p inbox.Policy, log *zap.Logger) (inbox.Inbox, error)
	Apply(in inbox.Inbox, p inbox.Policy)
}

// LenientStorage is a Storage whose Open may return an inbox before its storage was
// reached. See caddymodule.LenientInbox.
type LenientStorage interface {
	StartsWithoutStorage() bool
}

// Metrics counts what happens to events.
type Metrics interface {
	// Destination returns the metrics of a destination, for as long as deliveries go
	// there.
	Destination(name string) DestinationMetrics

	// Forget removes the metrics of a destination to which no config delivers any more.
	Forget(destination string)

	// Confirmation counts a callback that was to be confirmed, by what that came to.
	Confirmation(c Confirmation)

	// NoticesDropped counts notices that never became Caddy events.
	NoticesDropped(n int64)
}

// DestinationMetrics counts what happens on the way to one destination.
type DestinationMetrics interface {
	// Attempted counts an attempt: how long it took, and how old its event was.
	Attempted(verdict inbox.Verdict, took, age time.Duration)

	// MatchFailed counts an event of which it could not be told whether it goes there.
	MatchFailed()
}

// Emitter emits Caddy events.
type Emitter interface {
	ShouldEmit(name string) bool

	// Emit calls the handlers of an event, and returns when they have ended. It
	// may panic if one of them does.
	Emit(name string, data map[string]any)
}

// Handler is what operators may ask about the handler itself.
type Handler interface {
	// Config is the handler's config without anything secret.
	Config() control.Config

	// Bodies is the memory that the bodies of callbacks take.
	Bodies() control.Bodies

	// Explain says whether a caller would be let in. See control.Gateway.
	Explain(peer netip.Addr, forwardedFor string) control.Explanation

	// Lost makes the event that says that a task is lost.
	Lost(t inbox.Task, taskType string, at time.Time) *inbox.Event

	// Try takes a callback. See control.Gateway.
	Try(ctx context.Context, client netip.Addr, body []byte) control.Tried

	// Reconsider validates a quarantined callback, or without a source an answer of Fotor's
	// task API, by the rules of the config, and
	// returns its event. If it is still not valid, the error is a
	// *control.InvalidError.
	Reconsider(body []byte, receivedAt time.Time, source netip.Addr) (*inbox.Event, error)
}

package fotorwebhook

import (
	"net/netip"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/fotor-webhook/caddy-fotor-webhook/body"
	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/confirm"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func init() {
	control.Provide(gateway.Provider{Surveyors: surveyors})
}

// surveyors are the inbox modules that can look for inboxes without a handler.
func surveyors() (all []inbox.Surveyor) {
	for _, info := range caddy.GetModules("http.fotor_webhook.inbox") {
		if surveyor, ok := info.New().(inbox.Surveyor); ok {
			all = append(all, surveyor)
		}
	}
	return all
}

// gatewayConfig returns the part of the handler's config that its gateway needs.
func (h *Handler) gatewayConfig() *gateway.Config {
	destinations := make([]gateway.Destination, 0, len(h.destinations))
	for _, d := range h.destinations {
		destinations = append(destinations, d.forGateway())
	}
	c := &gateway.Config{
		Name:         h.Name,
		Key:          h.key,
		Storage:      h.module,
		Policy:       h.policy(),
		Destinations: destinations,
		Grace:        h.grace,
		Rules:        h.rules,
		Logger:       h.logger,
		Metrics:      h.metrics,
		Events:       emitter{h.ctx, h.events},
		Handler:      facts{h},
	}
	if h.fotor != nil {
		c.Asking = &gateway.Asking{
			Fotor: h.fotor, Schedule: h.FotorAPI.Schedule(), Rate: h.FotorAPI.Rate, Metrics: h.metrics.Questions(),
		}
		if h.FotorAPI.Confirms() {
			c.Asking.Confirm = &gateway.Confirm{Patience: time.Duration(h.FotorAPI.Patience), Hold: h.FotorAPI.Holds()}
		}
	}
	return c
}

// policy returns the part of the handler's config that its inbox needs.
func (h *Handler) policy() inbox.Policy {
	var longest caddy.Duration
	for _, d := range h.destinations {
		longest = max(longest, d.Retry.Max)
	}
	p := inbox.Policy{
		Keep:       time.Duration(h.Keep),
		Quarantine: *h.Quarantine,
		MaxWait:    time.Duration(longest),
		MaxEvent:   h.rules.MaxEvent(h.MaxBody),
	}
	if h.FotorAPI != nil {
		s := h.FotorAPI.Schedule()
		p.MaxTaskWait = s.Longest()
		p.MaxWait = max(p.MaxWait, confirm.MostPause)
	}
	return p
}

// emitter emits Caddy events in the context of one config.
type emitter struct {
	ctx caddy.Context
	app *caddyevents.App
}

// ShouldEmit implements gateway.Emitter.
func (e emitter) ShouldEmit(name string) bool { return e.app.ShouldEmit(name) }

// Emit implements gateway.Emitter.
func (e emitter) Emit(name string, data map[string]any) { e.app.Emit(e.ctx, name, data) }

// facts is what operators may learn about a handler.
type facts struct{ *Handler }

// Config implements gateway.Handler. It has only the scheme and host of the forward's
// URL, because a path or a query may be a secret.
func (f facts) Config() control.Config {
	h := f.Handler
	c := control.Config{
		Allow:       append([]string{}, h.Allow...),
		AllowFrom:   append([]string{}, h.whitelist.moduleNames()...),
		MaxBody:     h.MaxBody,
		Inbox:       h.inboxName,
		Storage:     h.key,
		Keep:        time.Duration(h.Keep).String(),
		Quarantine:  *h.Quarantine,
		SignSecrets: len(h.Sign),
		Timeout:     time.Duration(h.Timeout).String(),
		Concurrency: h.Concurrency,
		RetryFirst:  time.Duration(h.Retry.First).String(),
		RetryMax:    time.Duration(h.Retry.Max).String(),
		GiveUp:      time.Duration(h.Retry.GiveUp).String(),
		Rate:        h.Rate,

		Destinations: []control.DestinationConfig{},
	}
	for _, d := range h.destinations {
		if h.Destinations[d.name] == nil {
			c.Forward = d.forwarder.Target()
		} else {
			c.Destinations = append(c.Destinations, d.forOperators())
		}
	}
	return c
}

// Bodies implements gateway.Handler.
func (f facts) Bodies() control.Bodies {
	b := control.Bodies{Limit: body.RoomLimit(f.MaxBody)}
	b.Reading, b.Bytes = f.bodies.room.Load()
	return b
}

// Explain implements gateway.Handler.
func (f facts) Explain(peer netip.Addr, forwardedFor string) control.Explanation {
	return f.explain(peer, forwardedFor)
}

// Lost implements gateway.Handler.
func (facts) Lost(t inbox.Task, taskType string, at time.Time) *inbox.Event {
	return callback.Lost(t.ID, taskType, at)
}

// Reconsider implements gateway.Handler.
func (f facts) Reconsider(raw []byte, receivedAt time.Time, source netip.Addr) (*inbox.Event, error) {
	parsed, refused := validateBody(raw, f.rules)
	if refused == nil {
		arrival := callback.Arrival{At: receivedAt, Source: source, Compared: f.fotor != nil}
		switch {
		case !source.IsValid(): // nobody called
			arrival.Origin = inbox.FromAPI
		case f.FotorAPI.Confirms(): // the operator decides
			arrival.Confirmed = callback.Unconfirmed
		}
		return parsed.Event(arrival), nil
	}
	problems := make([]control.Problem, 0, len(refused.reasons()))
	for _, p := range refused.reasons() {
		problems = append(problems, control.Problem{Pointer: p.Pointer, Detail: p.Detail})
	}
	return nil, &control.InvalidError{Status: refused.status, Problems: problems}
}

// Interface guards
var (
	_ gateway.Emitter = emitter{}
	_ gateway.Handler = facts{}
)

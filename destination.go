package fotorwebhook

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/forward"
	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/signature"
	"github.com/fotor-webhook/caddy-fotor-webhook/match"
)

// Destination is one of several services that events go to. Each has a queue of its own
// with its own attempts, retries and holds: none delays another.
type Destination struct {
	// Which events go there, decided once, when an event is accepted; those that fit all
	// that is given. Default: every event
	Match *match.Rules `json:"match,omitempty"`

	// Where they go. Required.
	Forward *Forward `json:"forward,omitempty"`

	// Secrets that sign each attempt, as those of the handler. Default: the handler's
	Sign []string `json:"sign,omitempty"`

	// How long one delivery attempt may take, up to 1 hour. Default: the handler's
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How many delivery attempts may run at once, 1 to 4096. Default: the handler's
	Concurrency int `json:"concurrency,omitempty"`

	// How many delivery attempts may begin in a second, retries included: 0.001 to
	// 100,000. Default: as many as there can be
	Rate float64 `json:"rate,omitempty"`

	// When an event is tried again after a failed attempt. Default: the handler's, each
	// field for itself
	Retry *Retry `json:"retry,omitempty"`

	name      string
	matcher   *match.Matcher
	forwarder *forward.Forwarder
}

// Forward says where events go: a URL, or HTTP routes that an internal request
// runs through for every attempt. Exactly one of them is required.
type Forward struct {
	// The URL that events are POSTed to: absolute, with the scheme `http`,
	// `https` or `h2c`. Placeholders are replaced once, at load. Required, unless there
	// are `routes`.
	URL string `json:"url,omitempty"`

	// The routes that events are sent through. The status of their answer decides:
	// with 2xx the event is delivered, with 410 it is dead at once, and with any
	// other it is tried again. Required, unless there is a `url`.
	Routes caddyhttp.RouteList `json:"routes,omitempty"`

	block *caddyfile.Dispenser // of a Caddyfile, until it is parsed
}

// The limits of Destination.Rate.
const (
	minRate = 0.001
	maxRate = 100_000
)

// setDestinations makes the list of destinations, in the order of their names: those that
// are configured, and the one that the handler's own forward is.
func (h *Handler) setDestinations() error {
	if h.Forward == nil && len(h.Destinations) == 0 {
		return errors.New("forward is missing: expected the URL of your service, or routes that lead to it, or destinations")
	}
	_, both := h.Destinations[inbox.DefaultDestination]
	switch {
	case h.Forward != nil && both:
		return errors.New(`both forward and the destination "default", which is the same: expected one of them`)
	case h.Forward == nil && h.Rate != 0:
		return errors.New("rate without forward, to which it belongs: expected it in a destination")
	}
	if h.Forward != nil {
		h.destinations = append(h.destinations, &Destination{name: inbox.DefaultDestination, Forward: h.Forward, Rate: h.Rate})
	}
	for _, name := range slices.Sorted(maps.Keys(h.Destinations)) {
		d := h.Destinations[name]
		if err := inbox.CheckDestination(name); err != nil {
			return err
		}
		if d == nil {
			return fmt.Errorf("destination %q is null: expected an object", name)
		}
		d.name = name
		h.destinations = append(h.destinations, d)
	}
	if n := len(h.destinations); n > inbox.MaxDestinations {
		return fmt.Errorf("%d destinations: expected at most %d", n, inbox.MaxDestinations)
	}
	slices.SortFunc(h.destinations, func(a, b *Destination) int { return cmp.Compare(a.name, b.name) })
	for _, d := range h.destinations {
		d.setDefaults(h)
	}
	return nil
}

// setDefaults takes from the handler what the destination does not say.
func (d *Destination) setDefaults(h *Handler) {
	if len(d.Sign) == 0 {
		d.Sign = h.Sign
	}
	d.Timeout = cmp.Or(d.Timeout, h.Timeout)
	d.Concurrency = cmp.Or(d.Concurrency, h.Concurrency)
	if d.Retry == nil {
		d.Retry = new(Retry)
	}
	d.Retry.setDefaults(h.Retry)
}

// setDefaults takes from others what the schedule does not say.
func (r *Retry) setDefaults(others *Retry) {
	r.First = cmp.Or(r.First, others.First)
	r.Max = cmp.Or(r.Max, max(others.Max, r.First))
	r.GiveUp = cmp.Or(r.GiveUp, max(others.GiveUp, r.First))
}

// option returns the beginning of an error about an option of the destination. The
// handler's own forward is not called a destination in its config.
func (d *Destination) option(h *Handler) string {
	if h.Destinations[d.name] == nil {
		return ""
	}
	return fmt.Sprintf("destination %q: ", d.name)
}

func (h *Handler) provisionDestinations(ctx caddy.Context) error {
	app := httpApp(ctx)
	h.grace = drainTime(app)
	for _, d := range h.destinations {
		if err := d.provision(ctx, h, app); err != nil {
			return fmt.Errorf("%s%w", d.option(h), err)
		}
	}
	return nil
}

func (d *Destination) provision(ctx caddy.Context, h *Handler, app *caddyhttp.App) (err error) {
	if d.matcher, err = match.Compile(d.Match); err != nil {
		return err
	}
	secrets, err := signature.Parse(d.Sign)
	if err != nil {
		return err
	}
	options := forward.Options{
		Handler: h.Name, Destination: d.name, Secrets: secrets, Concurrency: d.Concurrency, App: app, Tracers: h.tracers.Provider,
	}
	if d.Forward != nil {
		options.URL, options.Routes = d.Forward.URL, d.Forward.Routes
	}
	d.forwarder, err = forward.New(ctx, options)
	return err
}

func (h *Handler) validateDestinations() error {
	errs := make([]error, 0, len(h.destinations))
	for _, d := range h.destinations {
		if d.name == inbox.ConfirmDestination {
			errs = append(errs, fmt.Errorf("destination %s: the name is that of callbacks which wait to be confirmed: expected another one", d.name))
		}
		errs = append(errs, checkAttempts(d.option(h), d.Timeout, d.Concurrency, d.Rate, d.Retry))
	}
	return errors.Join(errs...)
}

// checkAttempts checks the options that a handler and a destination have in common.
func checkAttempts(prefix string, timeout caddy.Duration, concurrency int, rate float64, retry *Retry) error {
	errs := []error{
		withinDuration(prefix+"timeout", timeout, time.Millisecond, time.Hour),
		within(prefix+"concurrency", int64(concurrency), 1, maxConcurrency),
		withinDuration(prefix+"retry first", retry.First, time.Millisecond, maxDuration),
		withinDuration(prefix+"retry max", retry.Max, time.Duration(retry.First), maxDuration),
		withinDuration(prefix+"retry give_up", retry.GiveUp, time.Duration(retry.First), maxDuration),
	}
	if rate != 0 && (rate < minRate || rate > maxRate) {
		errs = append(errs, fmt.Errorf("%srate is %g a second: expected %g to %d", prefix, rate, minRate, maxRate))
	}
	return errors.Join(errs...)
}

func (h *Handler) closeForwarders() {
	for _, d := range h.destinations {
		if d.forwarder != nil {
			d.forwarder.Close()
		}
	}
}

// forGateway returns the part of the config that the handler's gateway needs.
func (d *Destination) forGateway() gateway.Destination {
	return gateway.Destination{Name: d.name, Match: d.matcher, Copy: d.forwarder.Copy, Dispatch: dispatch.Settings{
		Attempt:     d.forwarder.Attempt,
		Concurrency: d.Concurrency,
		Timeout:     time.Duration(d.Timeout),
		First:       time.Duration(d.Retry.First),
		Max:         time.Duration(d.Retry.Max),
		GiveUp:      time.Duration(d.Retry.GiveUp),
		Rate:        d.Rate,
	}}
}

// forOperators returns the config without anything secret.
func (d *Destination) forOperators() control.DestinationConfig {
	return control.DestinationConfig{
		Name:        d.name,
		Match:       append([]string{}, d.Match.Lines()...),
		Forward:     d.forwarder.Target(),
		SignSecrets: len(d.Sign),
		Timeout:     time.Duration(d.Timeout).String(),
		Concurrency: d.Concurrency,
		Rate:        d.Rate,
		RetryFirst:  time.Duration(d.Retry.First).String(),
		RetryMax:    time.Duration(d.Retry.Max).String(),
		GiveUp:      time.Duration(d.Retry.GiveUp).String(),
	}
}

// defaultDrain is how long attempts may go on after a stop if the HTTP app has no
// grace period. Without a bound, a silent upstream would keep the process from
// ending.
const defaultDrain = 10 * time.Second

func drainTime(app *caddyhttp.App) time.Duration {
	if app != nil && app.GracePeriod > 0 {
		return time.Duration(app.GracePeriod)
	}
	return defaultDrain
}

// httpApp returns the HTTP app of the handler, nil if there is none. ctx.App cannot
// find it, because it is still being provisioned.
func httpApp(ctx caddy.Context) *caddyhttp.App {
	modules := ctx.Modules()
	i := slices.IndexFunc(modules, func(m caddy.Module) bool {
		_, ok := m.(*caddyhttp.App)
		return ok
	})
	if i < 0 {
		return nil
	}
	return modules[i].(*caddyhttp.App)
}

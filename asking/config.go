// Package asking is the option fotor_api: the config of asking Fotor for tasks, and the
// client that it makes.
//
// config.go has the options with their defaults and rules, caddyfile.go their grammar, and
// fotor.go asks as the config says, through Caddy's HTTP transport.
package asking

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/fotor-webhook/caddy-fotor-webhook/confirm"
	"github.com/fotor-webhook/caddy-fotor-webhook/fotorapi"
	"github.com/fotor-webhook/caddy-fotor-webhook/reconcile"
)

// Config says how Fotor is asked for tasks. Its callbacks are not signed, and nobody
// promises that they come: with the key of an account, the gateway can ask.
type Config struct {
	// The API key of the account whose callbacks arrive, usually a placeholder such as
	// `{env.FOTOR_API_KEY}` or `{file./run/secrets/fotor}`, which is replaced once, at load.
	// It is sent to the URL only. Required
	Key string `json:"key,omitempty"`

	// Where Fotor's task API is: http or https, a host, and perhaps a path. Placeholders are
	// replaced once, at load. Default: `https://api-b.fotor.com`
	URL string `json:"url,omitempty"`

	// How many questions may be put in a second, 0.001 to 100. Handlers with the same key
	// and URL have one budget, the lowest of their rates. Fotor's answer 429 halves it for a
	// while. Default: 2
	Rate float64 `json:"rate,omitempty"`

	// Whether Fotor is asked before a called event is delivered: `off`, or `final` for those
	// that end a task. Default: `off`
	Confirm string `json:"confirm,omitempty"`

	// What becomes of a callback for which Fotor could not be asked for `patience`:
	// `deliver`, with `"confirmed": false`, or `hold`, so that it waits until Fotor can be
	// asked. Default: `deliver`
	OnFailure string `json:"on_failure,omitempty"`

	// How long Fotor is asked for a callback, 10 seconds to 7 days. One whose task has not
	// ended then, or that Fotor does not know, is put in quarantine. Default: 10m
	Patience caddy.Duration `json:"patience,omitempty"`

	// When Fotor is asked for a task whose final callback has not come.
	// Default: that of each field
	Reconcile *Reconcile `json:"reconcile,omitempty"`

	// The HTTP transport of the questions, such as
	// `{"protocol": "http", "network_proxy": …}`; only `http` can be used.
	// Default: that transport with its defaults
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`
}

// Reconcile says when Fotor is asked for a task whose final callback has not come. The pauses
// vary by a quarter, so that tasks which became known together are not asked for together.
type Reconcile struct {
	// The time from when the task became known to the first question, 1 second to 30 days.
	// Default: 2m
	After caddy.Duration `json:"after,omitempty"`

	// The pause after the first question, 1 second to 1 day. It doubles with each further
	// question up to 30 minutes, or stays as it is if it is longer. Default: 2m
	Every caddy.Duration `json:"every,omitempty"`

	// The age at which a task is lost of which Fotor says no end; then there is an event
	// that says so. Each task is asked for at least three times. A task for which Fotor
	// could not be asked has twice as long. Longer than `after`, and at most 1 year.
	// Default: 24h
	GiveUp caddy.Duration `json:"give_up,omitempty"`
}

// What options may be.
const (
	minRate   = 0.001
	maxRate   = 100
	minPause  = time.Second
	maxAfter  = 30 * 24 * time.Hour
	maxEvery  = 24 * time.Hour
	maxGiveUp = 365 * 24 * time.Hour

	minPatience = 10 * time.Second
	maxPatience = 7 * 24 * time.Hour

	confirmOff       = "off"
	confirmFinal     = "final"
	onFailureDeliver = "deliver"
	onFailureHold    = "hold"
)

// SetDefaults sets the options that were not given.
func (c *Config) SetDefaults() {
	c.URL = cmp.Or(c.URL, fotorapi.DefaultURL)
	c.Rate = cmp.Or(c.Rate, fotorapi.DefaultRate)
	c.Confirm = cmp.Or(c.Confirm, confirmOff)
	c.OnFailure = cmp.Or(c.OnFailure, onFailureDeliver)
	c.Patience = cmp.Or(c.Patience, caddy.Duration(confirm.Default))
	if c.Reconcile == nil {
		c.Reconcile = new(Reconcile)
	}
	r := c.Reconcile
	r.After = cmp.Or(r.After, caddy.Duration(reconcile.DefaultAfter))
	r.Every = cmp.Or(r.Every, caddy.Duration(reconcile.DefaultEvery))
	r.GiveUp = cmp.Or(r.GiveUp, caddy.Duration(reconcile.DefaultGiveUp))
	if c.TransportRaw == nil {
		c.TransportRaw = json.RawMessage(`{"protocol":"http"}`)
	}
}

// Validate checks the options, whose defaults must be set. URL and key are checked where the
// client is made.
func (c *Config) Validate() error {
	r := c.Reconcile
	errs := []error{
		oneOf("confirm", c.Confirm, confirmOff, confirmFinal),
		oneOf("on_failure", c.OnFailure, onFailureDeliver, onFailureHold),
		within("patience", c.Patience, minPatience, maxPatience),
		within("reconcile after", r.After, minPause, maxAfter),
		within("reconcile every", r.Every, minPause, maxEvery),
		within("reconcile give_up", r.GiveUp, minPause, maxGiveUp),
	}
	if !(c.Rate >= minRate && c.Rate <= maxRate) { // which NaN is not either
		errs = append(errs, fmt.Errorf("fotor_api: rate is %g: expected %g to %d a second", c.Rate, minRate, maxRate))
	}
	if r.GiveUp <= r.After {
		errs = append(errs, fmt.Errorf("fotor_api: reconcile give_up is %s and after is %s: expected give_up to be longer",
			time.Duration(r.GiveUp), time.Duration(r.After)))
	}
	return errors.Join(errs...)
}

func within(option string, value caddy.Duration, least, most time.Duration) error {
	if d := time.Duration(value); d < least || d > most {
		return fmt.Errorf("fotor_api: %s is %s: expected %s to %s", option, d, least, most)
	}
	return nil
}

func oneOf(option, value, one, other string) error {
	if err := either(value, one, other); err != nil {
		return fmt.Errorf("fotor_api: %s is %.40q: %w", option, value, err)
	}
	return nil
}

func either(value, one, other string) error {
	if value != one && value != other {
		return fmt.Errorf("expected %s or %s", one, other)
	}
	return nil
}

// Confirms reports whether final callbacks are confirmed. It may be called of nil.
func (c *Config) Confirms() bool { return c != nil && c.Confirm == confirmFinal }

// Holds reports whether callbacks wait for as long as Fotor cannot be asked.
func (c *Config) Holds() bool { return c.OnFailure == onFailureHold }

// Schedule returns when tasks are asked for.
func (c *Config) Schedule() reconcile.Schedule {
	r := c.Reconcile
	return reconcile.Schedule{After: time.Duration(r.After), Every: time.Duration(r.Every), GiveUp: time.Duration(r.GiveUp)}
}

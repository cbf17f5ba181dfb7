// Package fotorwebhook is a Caddy HTTP handler that takes the callbacks of
// Fotor's asynchronous AI tasks: it lets in whitelisted addresses only,
// validates the callback, stores it durably, answers 200 at once, and forwards
// a normalized event to the user's own service until that has taken it.
//
// To follow a callback, read receive.go (request to answer), whitelist.go and
// validate.go, then the packages callback, inbox, dispatch (leases and retries)
// and forward (one delivery attempt).
package fotorwebhook

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	// the default inbox, the admin API, the command line, the dashboard, readiness and
	// fotor_tasks come with the handler, so that one --with is enough
	"github.com/fotor-webhook/caddy-fotor-webhook/asking"
	"github.com/fotor-webhook/caddy-fotor-webhook/body"
	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
	_ "github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/admin"
	_ "github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/command"
	_ "github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/dashboard"
	_ "github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/ready"
	_ "github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/sqlite"
	_ "github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/tasks"
	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/configdiff"
	"github.com/fotor-webhook/caddy-fotor-webhook/limitguard"
	"github.com/fotor-webhook/caddy-fotor-webhook/metrics"
	"github.com/fotor-webhook/caddy-fotor-webhook/tracing"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// The defaults of a Handler, set in Provision; those that its inbox depends on
// are in package inbox.
const (
	defaultMaxBody     = 1 << 20
	defaultTimeout     = 30 * time.Second
	defaultConcurrency = 32
	defaultRetryFirst  = 5 * time.Second
	defaultRetryMax    = time.Hour
	defaultGiveUp      = 72 * time.Hour
)

// The limits of a Handler, checked in Validate.
const (
	minMaxBody     = 1 << 10
	maxMaxBody     = 64 << 20
	maxQuarantine  = 1_000_000
	maxConcurrency = 4096
)

// Handler takes the callbacks that Fotor POSTs when a task changes its state. It
// answers 200 only once the callback is on stable storage, and forwards it as an
// event to an upstream until the upstream has taken it with a 2xx answer.
//
// It is a terminal handler: it answers every request that reaches it.
//
// ### Placeholders
//
// Once the handler has judged a request, and in the routes of a forward, the following
// placeholders are available. The task's id and type are text from outside: they are
// percent-encoded where they are not printable ASCII, and cut at 1024 bytes.
//
// Placeholder | Description
// ------------|---------------
// `{http.fotor_webhook.id}` | The id of the event, empty if the callback was refused
// `{http.fotor_webhook.task_id}` | The id of the task, empty if the callback was refused
// `{http.fotor_webhook.type}` | The type of the task, empty if the callback was refused
// `{http.fotor_webhook.status}` | `in_progress`, `completed` or `failed`, empty if the callback was refused
// `{http.fotor_webhook.duplicate}` | Whether the callback is a repeat of one that is stored
// `{http.fotor_webhook.outcome}` | `accepted`, `duplicate`, or why it was refused, as in the metric of callbacks
// `{http.fotor_webhook.destination}` | In a forward's routes: the name of the destination
// `{http.fotor_webhook.attempt}` | In a forward's routes: the number of the attempt, from 1
type Handler struct {
	// The name of the stream of events. It names the inbox file, the metrics and
	// the log lines, so it should stay the same. Handlers of the same name are one
	// gateway, and must be equal in every option. It consists of 1 to 64 letters,
	// digits, "_" and "-". Default: `default`
	Name string `json:"name,omitempty"`

	// Who may call: IP addresses, CIDR ranges, `fotor` (the addresses that Fotor
	// publishes) and `private_ranges`. Matched against Caddy's client IP, so
	// the server's `trusted_proxies` decide behind a load balancer.
	// Default: `["fotor"]`, unless `allow_from` is given.
	Allow []string `json:"allow,omitempty"`

	// More ranges that may call, from any module in `http.ip_sources`. Default: none
	AllowFromRaw []json.RawMessage `json:"allow_from,omitempty" caddy:"namespace=http.ip_sources inline_key=source"`

	// The largest accepted body in bytes, 1 KiB to 64 MiB; a larger one is
	// answered 413. Default: 1 MiB
	MaxBody int64 `json:"max_body,omitempty"`

	// Where events are stored. Default: `{"module": "sqlite"}`
	InboxRaw json.RawMessage `json:"inbox,omitempty" caddy:"namespace=http.fotor_webhook.inbox inline_key=module"`

	// How long delivered and superseded events stay, for dedupe and inspection,
	// counted from their end; at least 1 minute. The oldest are removed earlier if
	// the inbox is nearly full. Default: 7 days
	Keep caddy.Duration `json:"keep,omitempty"`

	// How many callbacks that failed validation are kept, at most 1,000,000. Those
	// with the same body count as one. If there are too many, the one that has not
	// arrived for the longest time is removed. 0 keeps none. Default: 1000
	Quarantine *int `json:"quarantine,omitempty"`

	// Prefixes of the URLs of results and images, each with its replacement in the
	// event: both absolute http, https or s3 URLs with a path, such as `s3://bucket/`.
	// They are compared byte for byte, and the longest that matches is replaced. A
	// prefix that is its own replacement leaves URLs as they are. At most 100.
	// Default: `{"s3://img-pub-fotor/": "https://pub-static.fotor.com/"}`, which
	// stays beside others, unless its prefix is given
	ResultURL map[string]string `json:"result_url,omitempty"`

	// Status numbers that are valid beside 0, 1 and 2, from 3 to 999, and what each
	// means: `in_progress`, `completed` or `failed`. Default: none
	MapStatus map[int]string `json:"map_status,omitempty"`

	// How Fotor is asked for tasks whose final callbacks do not come. Default: it is not
	FotorAPI *asking.Config `json:"fotor_api,omitempty"`

	// Where events go: the destination `default`. Required, unless there are
	// `destinations`.
	Forward *Forward `json:"forward,omitempty"`

	// More services that events go to, by their names, of 1 to 64 letters, digits, "_"
	// and "-"; at most 32 with `default`. `default` may stand here in place of `forward`.
	// An event that fits none is stored as skipped. Default: none
	Destinations map[string]*Destination `json:"destinations,omitempty"`

	// Secrets that sign each attempt by the Standard Webhooks specification:
	// base64 of 24 to 64 bytes, with or without the prefix `whsec_`. If there are
	// several, for rotation, an attempt has a signature of each. Placeholders are
	// replaced once, at load. Default: none, attempts are not signed
	Sign []string `json:"sign,omitempty"`

	// How long one delivery attempt may take, up to 1 hour. Default: 30s
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How many delivery attempts may run at once, 1 to 4096. Default: 32
	Concurrency int `json:"concurrency,omitempty"`

	// How many delivery attempts of `forward` may begin in a second, retries included:
	// 0.001 to 100,000. It is not a default for destinations. Default: as many as there
	// can be
	Rate float64 `json:"rate,omitempty"`

	// When an event is tried again after a failed attempt. Default: that of each field
	Retry *Retry `json:"retry,omitempty"`

	destinations []*Destination // all of them, in the order of their names

	config map[string]any // as it was given, with defaults
	copies []*Handler     // of the same name and config

	ctx       caddy.Context
	logger    *zap.Logger
	refusals  *zap.Logger
	whitelist whitelist
	proxies   *proxyCheck
	module    caddymodule.Inbox
	fotor     *asking.Fotor // nil if it is not asked
	inboxName string
	key       string
	rules     *callback.Rules
	grace     time.Duration // for attempts under way at a stop
	times     body.Times
	metrics   *metrics.Handler
	gateway   *gateway.Ref // nil until it is provisioned
	bodies    *bodies
	server    *caddyhttp.Server // nil if there is none
	events    *caddyevents.App
	tracers   *tracing.Source
}

// Retry is the schedule of delivery attempts. The wait before attempt n+1 is
// drawn evenly from zero to first × 2ⁿ⁻¹ ("full jitter"), never more than max.
// An answer's Retry-After is obeyed instead, up to max.
type Retry struct {
	// The upper bound of the first wait. Default: 5s
	First caddy.Duration `json:"first,omitempty"`

	// The upper bound of every wait, at least `first`. While the whole upstream is in
	// trouble it is two seconds if less is set. Default: 1h
	Max caddy.Duration `json:"max,omitempty"`

	// The age, from its callback or its last replay, at which an event that the
	// upstream does not take is given up: it becomes dead and stays, to be replayed
	// or purged. Each time it has at least five attempts. Time in which the whole
	// upstream was in trouble does not count. At least `first`. Default: 72h
	GiveUp caddy.Duration `json:"give_up,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.fotor_webhook",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets the defaults, loads the guest modules, compiles the forward
// and registers the handler with the app that opens its inbox at Start. It
// touches no file and no network.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := h.provision(ctx); err != nil {
		return fmt.Errorf("handler %q: %w", h.Name, err)
	}
	return nil
}

func (h *Handler) provision(ctx caddy.Context) error {
	h.ctx = ctx
	h.tracers = new(tracing.Source)
	h.setDefaults()
	if err := h.setDestinations(); err != nil {
		return err
	}
	config, err := configdiff.Canonical(h)
	if err != nil {
		return fmt.Errorf("reading the config: %w", err)
	}
	h.config = config
	h.logger = ctx.Logger().With(zap.String("handler", h.Name))
	h.refusals = sampled(h.logger)
	h.times = body.DefaultTimes

	if err := metrics.Register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	h.metrics = metrics.Of(h.Name)
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("events app: %w", err)
	}
	h.events = events.(*caddyevents.App)

	if err := h.provisionWhitelist(ctx); err != nil {
		return err
	}
	if h.rules, err = callback.NewRules(h.MapStatus, h.ResultURL); err != nil {
		return err
	}
	if err := h.provisionInbox(ctx); err != nil {
		return err
	}
	if h.FotorAPI != nil {
		if h.fotor, err = h.FotorAPI.Provision(ctx); err != nil {
			return err
		}
	}
	if err := h.provisionDestinations(ctx); err != nil {
		return err
	}
	if err := limitguard.Install(ctx, h.server, h.refuseLarge); err != nil {
		return err
	}

	app, err := ctx.App(appID)
	if err != nil {
		return err
	}
	if err := app.(*App).register(h); err != nil {
		return err
	}
	h.gateway = gateway.NewRef(h.Name)
	h.bodies, err = acquireBodies(h.Name)
	return err
}

func (h *Handler) setDefaults() {
	h.Name = cmp.Or(h.Name, inbox.DefaultName)
	if len(h.Allow) == 0 && len(h.AllowFromRaw) == 0 {
		h.Allow = []string{allowFotor}
	}
	h.MaxBody = cmp.Or(h.MaxBody, defaultMaxBody)
	if len(h.InboxRaw) == 0 {
		h.InboxRaw = json.RawMessage(`{"module":"sqlite"}`)
	}
	h.Keep = cmp.Or(h.Keep, caddy.Duration(inbox.DefaultKeep))
	if h.Quarantine == nil {
		h.Quarantine = new(int)
		*h.Quarantine = inbox.DefaultQuarantine
	}
	if _, ok := h.ResultURL[callback.BucketPrefix]; !ok {
		h.ResultURL = maps.Clone(h.ResultURL)
		if h.ResultURL == nil {
			h.ResultURL = make(map[string]string)
		}
		h.ResultURL[callback.BucketPrefix] = callback.BucketURL
	}
	h.Timeout = cmp.Or(h.Timeout, caddy.Duration(defaultTimeout))
	h.Concurrency = cmp.Or(h.Concurrency, defaultConcurrency)
	if h.Retry == nil {
		h.Retry = new(Retry)
	}
	if h.FotorAPI != nil {
		h.FotorAPI.SetDefaults()
	}
	h.Retry.setDefaults(&Retry{
		First:  caddy.Duration(defaultRetryFirst),
		Max:    caddy.Duration(defaultRetryMax),
		GiveUp: caddy.Duration(defaultGiveUp),
	})
}

func checkName(name string) error {
	if !inbox.ValidName(name) {
		return errors.New("expected 1 to 64 letters, digits, '_' or '-'")
	}
	return nil
}

// Validate checks the rules that hold for the JSON config and the Caddyfile alike.
func (h *Handler) Validate() error {
	err := errors.Join(
		within("max_body", h.MaxBody, minMaxBody, maxMaxBody),
		withinDuration("keep", h.Keep, time.Minute, maxDuration),
		within("quarantine", int64(*h.Quarantine), 0, maxQuarantine),
		checkAttempts("", h.Timeout, h.Concurrency, h.Rate, h.Retry),
	)
	if h.FotorAPI != nil {
		err = errors.Join(err, h.FotorAPI.Validate())
	}
	if err == nil { // else destinations have the same faults by default
		err = h.validateDestinations()
	}
	if err != nil {
		return fmt.Errorf("handler %q: %w", h.Name, err)
	}
	return nil
}

// maxDuration is far beyond every sensible setting and far below an overflow.
const maxDuration = 10 * 365 * 24 * time.Hour

func within(option string, value, least, most int64) error {
	if value < least || value > most {
		return fmt.Errorf("%s is %d: expected %d to %d", option, value, least, most)
	}
	return nil
}

func withinDuration(option string, value caddy.Duration, least, most time.Duration) error {
	if d := time.Duration(value); d < least || d > most {
		return fmt.Errorf("%s is %s: expected %s to %s", option, d, least, most)
	}
	return nil
}

// Cleanup releases what the handler holds. Requests that are being served hold
// their inbox themselves, because they go on after it.
func (h *Handler) Cleanup() error {
	h.closeForwarders()
	if h.fotor != nil {
		h.fotor.Close()
	}
	h.metrics.Release()
	if h.gateway != nil {
		h.gateway.Close()
	}
	return h.bodies.release()
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)

// Package tasks is the handler fotor_tasks: it learns which tasks are submitted to Fotor,
// from the answers to their submissions. docs/tasks.md describes it for users.
//
// Read the files in this order: tasks.go is the module, exchange.go a request and its
// answer, answer.go the answers that it holds up, learn.go what it reads in them and stores.
package tasks

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/metrics"
)

const directive = "fotor_tasks"

func init() {
	caddy.RegisterModule(new(Handler))
	httpcaddyfile.RegisterHandlerDirective(directive, parseCaddyfile)
	httpcaddyfile.RegisterDirectiveOrder(directive, httpcaddyfile.Before, "reverse_proxy")
}

// Tests change these.
var (
	// storeTimeout is how long an answer waits for its tasks to be stored.
	storeTimeout = 5 * time.Second

	// linger is how long the exchange with Fotor may go on after the client has hung up:
	// the task that it submits is paid for.
	linger = time.Minute
)

// Handler stands before a `reverse_proxy` to Fotor's API. From the answers to POST requests
// it learns the ids of the tasks that were submitted, and has the `fotor_webhook` handler of
// the given name ask Fotor for them, should their callbacks not come.
//
// An answer is held up until its task is on stable storage, for 5 seconds at most: status
// 2xx, `Content-Type: application/json`, at most 64 KiB, with the `code` "000" and a
// `data.taskId`. If the task cannot be stored, the answer goes on all the same, and the log
// names the task. Requests are never held up, nor any other answer. Fotor is asked to
// compress no answer to a POST request.
//
// If the client hangs up, the exchange goes on for up to a minute, so that the task becomes
// known.
type Handler struct {
	// The name of the `fotor_webhook` handler, which must be of the same config and have a
	// `fotor_api`, or the config is not loaded. Default: default.
	Name string `json:"name,omitempty"`

	logger *zap.Logger
	learnt *metrics.Learnt

	storeTimeout, linger time.Duration

	// warned is set once it was said that the handler has no fotor_api.
	warned atomic.Bool
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers." + directive,
		New: func() caddy.Module { return new(Handler) },
	}
}

func parseCaddyfile(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h := new(Handler)
	return h, h.UnmarshalCaddyfile(helper.Dispenser)
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	fotor_tasks [<matcher>] [<name>]
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume directive name
	args := d.RemainingArgs()
	switch {
	case len(args) > 1:
		return d.Errf("%s has %d arguments: expected the name of one fotor_webhook handler, or nothing", directive, len(args))
	case len(args) == 1 && args[0] == "":
		return d.Errf("%s: the name is empty: expected that of a fotor_webhook handler, or nothing", directive)
	case len(args) == 1:
		h.Name = args[0]
	}
	if d.NextBlock(0) {
		return d.Errf("%s: unexpected block: expected the name of a fotor_webhook handler, or nothing", directive)
	}
	return nil
}

// Provision has the name compared with the handlers of the config when it starts.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	h.storeTimeout, h.linger = storeTimeout, linger
	if h.Name == "" {
		h.Name = inbox.DefaultName
	}
	if !control.ValidName(h.Name) { // before it becomes a label
		return fmt.Errorf("%s: name %.80q: expected 1 to 64 letters, digits, '_' or '-'", directive, h.Name)
	}
	app, err := ctx.App(caddymodule.AppID)
	if err != nil {
		return fmt.Errorf("%s: %w", directive, err)
	}
	running := app.(caddymodule.App)
	running.OnStart(func() error { return h.check(running) })
	if err := metrics.Register(ctx.GetMetricsRegistry()); err != nil {
		return fmt.Errorf("%s: registering metrics: %w", directive, err)
	}
	h.learnt = metrics.LearntFor(h.Name)
	return nil
}

// check returns an error if the name is not that of a handler of the config that asks Fotor.
// It is not called by `caddy validate`, which starts nothing.
func (h *Handler) check(running caddymodule.App) error {
	switch handlers := running.Handlers(); {
	case len(handlers) == 0:
		return fmt.Errorf("%s: the config has no fotor_webhook handler: expected one with the name %q", directive, h.Name)
	case !slices.Contains(handlers, h.Name):
		return fmt.Errorf("%s: the config has no fotor_webhook handler with the name %q: expected of %s",
			directive, h.Name, strings.Join(handlers, ", "))
	case !running.Asks(h.Name):
		return fmt.Errorf("%s: the fotor_webhook handler %q has no fotor_api, so Fotor would never be asked for the tasks: "+
			"expected one there, such as fotor_api { key {env.FOTOR_API_KEY} }, or no %s", directive, h.Name, directive)
	}
	return nil
}

// Cleanup releases the metrics. Requests may go on after it.
func (h *Handler) Cleanup() error {
	h.learnt.Release()
	return nil
}

// ServeHTTP passes a request on, and watches the answer if it may be that to a submission.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.Method != http.MethodPost {
		return next.ServeHTTP(w, r)
	}
	x, asking := h.begin(r.Context())
	if !asking {
		return next.ServeHTTP(w, r)
	}
	defer x.end()
	watched := r.WithContext(x.ctx) //nolint:contextcheck // it is made of the request's, but ends later
	watched.Header = r.Header.Clone()
	// Without the header Go's HTTP client would ask for gzip by itself, and the answer would
	// lose its Content-Length.
	watched.Header.Set("Accept-Encoding", "identity")
	a := &answer{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, exchange: x}
	defer a.brokenOff()
	err := next.ServeHTTP(a, watched)
	a.finish() //nolint:contextcheck // the client may have gone
	return err
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)

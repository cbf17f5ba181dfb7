// Package ready answers load balancers that ask whether this Caddy stores callbacks.
// docs/readiness.md describes it for users.
//
// Read the files in this order: ready.go is the module, canary.go how it finds out,
// answer.go what it says.
package ready

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

const directive = "fotor_webhook_ready"

func init() {
	caddy.RegisterModule(new(Handler))
	httpcaddyfile.RegisterHandlerDirective(directive, parseCaddyfile)
	// fotor_webhook is put between these two later: it takes every path if it has no
	// matcher
	httpcaddyfile.RegisterDirectiveOrder(directive, httpcaddyfile.Before, "respond")
}

// Handler answers 200 to GET and HEAD while each of its `fotor_webhook` handlers
// stores callbacks, and 503 with the reason otherwise. The proof is a durable write,
// not older than five seconds, and room for more. It is for load balancers, Kubernetes
// and the like, and cheap enough to be asked often.
//
// It is a terminal handler: it answers every request that reaches it.
type Handler struct {
	// The names of the `fotor_webhook` handlers that have to store. Each must be one of
	// the same config. Default: all of the config, at least one.
	Names []string `json:"names,omitempty"`

	logger *zap.Logger
	app    caddymodule.App

	mu       sync.Mutex
	canaries []*canary // nil until they are first needed
	closed   bool
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
//	fotor_webhook_ready [<matcher>] [<name> ...]
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume directive name
	h.Names = d.RemainingArgs()
	if d.NextBlock(0) {
		return d.Errf("%s: unexpected block: expected names of fotor_webhook handlers, or nothing", directive)
	}
	return nil
}

// Provision has the names compared with the handlers of the config when it starts.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	app, err := ctx.App(caddymodule.AppID)
	if err != nil {
		return fmt.Errorf("%s: %w", directive, err)
	}
	h.app = app.(caddymodule.App)
	h.app.OnStart(h.check)
	return nil
}

// Validate checks the names by themselves.
func (h *Handler) Validate() error {
	for i, name := range h.Names {
		switch {
		case !control.ValidName(name):
			return fmt.Errorf("%s: name %.80q: expected 1 to 64 letters, digits, '_' or '-'", directive, name)
		case slices.Contains(h.Names[:i], name):
			return fmt.Errorf("%s: name %q is given twice: expected each once", directive, name)
		}
	}
	return nil
}

// check returns an error if a name is not that of a handler of the config. It is not
// called by `caddy validate`, which starts nothing.
func (h *Handler) check() error {
	handlers := h.app.Handlers()
	if len(handlers) == 0 {
		return fmt.Errorf("%s: the config has no fotor_webhook handler: expected at least one", directive)
	}
	for _, name := range h.Names {
		if !slices.Contains(handlers, name) {
			return fmt.Errorf("%s: the config has no fotor_webhook handler with the name %q: expected of %s",
				directive, name, strings.Join(handlers, ", "))
		}
	}
	h.find() // while the config before still has the canaries
	return nil
}

// find returns the canaries of the handlers. Requests may come after Cleanup: those that
// were under way, and those that a config had let in that then failed to load.
func (h *Handler) find() []*canary {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.canaries != nil {
		return h.canaries
	}
	names := h.Names
	if len(names) == 0 {
		names = h.app.Handlers()
	}
	for _, name := range names {
		c := &canary{name: name}
		if !h.closed {
			c = acquire(name)
		}
		h.canaries = append(h.canaries, c)
	}
	return h.canaries
}

// Cleanup releases the canaries.
func (h *Handler) Cleanup() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	errs := make([]error, 0, len(h.canaries))
	for _, c := range h.canaries {
		errs = append(errs, c.release())
	}
	return errors.Join(errs...)
}

// ServeHTTP answers whether the handlers store.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return wrongMethod(w)
	case stopping(r):
		return notReady(w, []verdict{{Reason: isStopping}})
	}
	canaries := h.find()
	if len(canaries) == 0 { // the config is about to be refused
		return notReady(w, []verdict{{Reason: isNotRunning}})
	}
	if failed := h.ask(r.Context(), canaries); len(failed) > 0 {
		return notReady(w, failed)
	}
	return isReady(w)
}

// stopping reports whether the server will soon take no more requests. With
// shutdown_delay it still does for a while, so that load balancers can find out.
func stopping(r *http.Request) bool {
	if caddy.Exiting() {
		return true
	}
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return false
	}
	down, _ := repl.Get("http.shutting_down")
	return down == true
}

// ask returns what keeps handlers from storing.
func (h *Handler) ask(ctx context.Context, canaries []*canary) (failed []verdict) {
	answers := make([]func() error, 0, len(canaries))
	for _, c := range canaries {
		answers = append(answers, c.ask(ctx))
	}
	for i, answer := range answers {
		err := answer()
		if err != nil && ctx.Err() != nil && errors.Is(err, errSlow) {
			continue // nobody waits for the answer
		}
		reason := reasonOf(err)
		h.tell(canaries[i], reason, err)
		if err != nil {
			failed = append(failed, verdict{Name: canaries[i].name, Reason: reason})
		}
	}
	return failed
}

// tell logs what has changed. Only operators see the error itself.
func (h *Handler) tell(c *canary, reason reason, err error) {
	switch before := c.turn(reason); {
	case before == reason:
	case err == nil:
		h.logger.Info("ready again", zap.String("handler", c.name))
	default:
		h.logger.Warn("not ready", zap.String("handler", c.name), zap.String("reason", string(reason)), zap.Error(err))
	}
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)

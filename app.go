package fotorwebhook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/configdiff"
)

func init() {
	caddy.RegisterModule(App{})
}

const appID = caddymodule.AppID

// App opens the inboxes of the handlers and starts their deliveries once the whole
// config has been provisioned, and stops them: a Caddy HTTP handler has no such life
// cycle by itself. The handlers load it; it has no configuration of its own.
type App struct {
	handlers []*Handler // the first of each name; the others are its copies
	attached []*gateway.Attachment
	onStart  []func() error

	logger     *zap.Logger
	stopSurvey context.CancelFunc
	surveyed   chan struct{}
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  appID,
		New: func() caddy.Module { return new(App) },
	}
}

// Provision sets up the app.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger = ctx.Logger()
	return nil
}

// register adds a handler that is being provisioned.
func (a *App) register(h *Handler) error {
	for _, other := range a.handlers {
		if other.Name == h.Name {
			return h.join(other)
		}
		if other.key == h.key {
			return fmt.Errorf("the handlers %q and %q have the same inbox, %s: expected one of its own for each",
				other.Name, h.Name, h.key)
		}
	}
	a.handlers = append(a.handlers, h)
	return nil
}

// join makes the handler a copy of the first one of its name. Their configs must be
// equal. A site on two ports has two handlers, and so has a snippet that two sites
// import, or a named route that two servers invoke. The first one delivers; each
// answers the requests of its own server.
func (h *Handler) join(first *Handler) error {
	if differ := configdiff.Differences(first.config, h.config); len(differ) > 0 {
		return fmt.Errorf("name %q is used by two fotor_webhook handlers that differ in %s: expected the same options in both,"+
			" or a name of its own for each", h.Name, strings.Join(differ, ", "))
	}
	h.tracers = first.tracers
	first.copies = append(first.copies, h)
	return nil
}

// OnStart implements caddymodule.App.
func (a *App) OnStart(f func() error) { a.onStart = append(a.onStart, f) }

// Handlers implements caddymodule.App.
func (a *App) Handlers() []string {
	names := make([]string, 0, len(a.handlers))
	for _, h := range a.handlers {
		names = append(names, h.Name)
	}
	slices.Sort(names)
	return names
}

// Asks implements caddymodule.App.
func (a *App) Asks(name string) bool {
	return slices.ContainsFunc(a.handlers, func(h *Handler) bool { return h.Name == name && h.FotorAPI != nil })
}

// Start opens every handler's inbox, or on a reload joins the gateway that has it
// open, and delivers as the new config says. If an inbox cannot store, all are
// released and the config is refused.
func (a *App) Start() error {
	for _, f := range a.onStart {
		if err := f(); err != nil {
			return err
		}
	}
	for _, h := range a.handlers {
		att, err := h.attach()
		if err != nil {
			return errors.Join(fmt.Errorf("handler %q: %w", h.Name, err), a.release())
		}
		a.attached = append(a.attached, att)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.stopSurvey, a.surveyed = cancel, make(chan struct{})
	attached := slices.Clone(a.attached)
	go func() {
		defer close(a.surveyed)
		gateway.WarnUnattended(ctx, surveyors, a.logger)
		gateway.WarnLeftBehind(ctx, attached)
	}()
	return nil
}

// attach opens or joins the handler's inbox, and starts its deliveries.
func (h *Handler) attach() (*gateway.Attachment, error) {
	if err := h.tracers.Find(h.server); err != nil {
		h.logger.Warn("the tracing handler cannot be used for attempts before the first callback", zap.Error(err))
	}
	refs := append(make([]*gateway.Ref, 0, 1+len(h.copies)), h.gateway)
	for _, c := range h.copies {
		refs = append(refs, c.gateway)
	}
	return gateway.Attach(h.ctx, h.gatewayConfig(), refs...)
}

// Stop ends the deliveries of handlers that no newer config has taken over,
// within the grace period of the HTTP app. Inboxes stay open for the requests
// that are still being served.
func (a *App) Stop() error {
	if a.stopSurvey != nil {
		a.stopSurvey()
		<-a.surveyed
	}
	for _, att := range a.attached {
		if att.Detach() && !caddy.Exiting() { // the next process may have the handler again
			att.Leave()
		}
	}
	return nil
}

// Cleanup releases the inboxes. Each is closed after its last use.
func (a *App) Cleanup() error {
	return a.release()
}

func (a *App) release() error {
	errs := make([]error, 0, len(a.attached))
	for _, att := range a.attached {
		att.Detach()
		errs = append(errs, att.Release())
	}
	a.attached = nil
	return errors.Join(errs...)
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
	_ caddymodule.App    = (*App)(nil)
)

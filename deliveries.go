package fotorwebhook

import (
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fotor-webhook/caddy-fotor-webhook/forward"
)

// Forward says where events go: a URL, or HTTP routes that an internal request
// runs through for every attempt. Exactly one of them is required.
type Forward struct {
	// The URL that events are POSTed to: absolute, with the scheme `http`,
	// `https` or `h2c`. Placeholders are replaced once, at load.
	URL string `json:"url,omitempty"`

	// The routes that events are sent through. The status that they answer
	// with decides: 2xx is taken, 410 is dead at once, all else is tried again.
	Routes caddyhttp.RouteList `json:"routes,omitempty"`
}

func (h *Handler) provisionForward(ctx caddy.Context) error {
	secrets, err := forward.ParseSecrets(h.Sign)
	if err != nil {
		return err
	}
	app := httpApp(ctx)
	h.grace = drainTime(app)
	options := forward.Options{
		Handler: h.Name, Secrets: secrets, Concurrency: h.Concurrency, App: app, Tracers: h.tracerProvider,
	}
	if h.Forward != nil {
		options.URL, options.Routes = h.Forward.URL, h.Forward.Routes
	}
	if h.forwarder, err = forward.New(ctx, options); err != nil {
		return err
	}
	return nil
}

// defaultDrain is how long attempts may go on after a stop when the HTTP app
// has no grace period: an endless one would keep a process from ending for as
// long as an upstream keeps silent.
const defaultDrain = 10 * time.Second

func drainTime(app *caddyhttp.App) time.Duration {
	if app != nil && app.GracePeriod > 0 {
		return time.Duration(app.GracePeriod)
	}
	return defaultDrain
}

// httpApp returns the HTTP app that the handler is being provisioned for, nil
// if there is none. It cannot be asked for by name: it is not loaded yet.
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

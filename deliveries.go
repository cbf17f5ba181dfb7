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

	// The routes that events are sent through. The status of their answer decides:
	// with 2xx the event is delivered, with 410 it is dead at once, and with any
	// other it is tried again.
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
	h.forwarder, err = forward.New(ctx, options)
	return err
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

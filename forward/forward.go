// Package forward makes delivery attempts at a destination. request.go makes the request
// of an event, url.go sends it through Caddy's HTTP transport and routes.go through HTTP
// routes, and result.go turns the answer into the result of the attempt.
package forward

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/trace"

	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Options describe a destination. Exactly one of URL and Routes is required.
type Options struct {
	// URL is where events are POSTed to: absolute, with the scheme http, https or
	// h2c. Placeholders are replaced.
	URL string

	// Routes are what events are sent through. New provisions them.
	Routes caddyhttp.RouteList

	// Handler is the name of the handler, for requests and spans.
	Handler string

	// Destination is the name of the destination, for placeholders and spans.
	Destination string

	// Secrets sign the requests, see signature.Parse. Default: requests are not signed.
	Secrets [][]byte

	// Concurrency is how many idle connections to the URL are kept.
	Concurrency int

	// App is the HTTP app whose metrics count what the routes do; nil if there
	// is none.
	App *caddyhttp.App

	// Tracers returns the provider of the attempts' spans, nil until it is known.
	// Default: attempts have no spans.
	Tracers func() trace.TracerProvider
}

// Forwarder makes the attempts at one destination.
type Forwarder struct {
	options Options
	sender  sender
}

// sender sends requests to the destination.
type sender interface {
	attempt(ctx context.Context, lease *inbox.Lease) dispatch.Result
	target() string
	close()
}

// New makes the forwarder to a destination. It touches no network. The
// forwarder must be closed.
func New(ctx caddy.Context, options Options) (*Forwarder, error) {
	f := &Forwarder{options: options}
	switch o := &f.options; {
	case o.URL == "" && len(o.Routes) == 0: // which deliver nothing
		return nil, errors.New("forward is missing: expected the URL of your service, or routes that lead to it")
	case o.URL != "" && o.Routes != nil:
		return nil, errors.New("forward has both a URL and routes: expected one of them")
	case o.URL != "":
		direct, err := newURLForward(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("forward: %w", err)
		}
		f.sender = direct
	default:
		routes, err := newRouteForward(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("forward: %w", err)
		}
		f.sender = routes
	}
	return f, nil
}

// Attempt makes one delivery attempt, with a span of its own if the event's callback was
// traced.
func (f *Forwarder) Attempt(ctx context.Context, lease *inbox.Lease) dispatch.Result {
	if lease.Event.TraceParent == "" || f.options.Tracers == nil {
		return f.sender.attempt(ctx, lease)
	}
	tracers := f.options.Tracers()
	if tracers == nil {
		return f.sender.attempt(ctx, lease)
	}
	return f.traced(ctx, lease, tracers)
}

// Target returns where events go, without anything that may be secret: the scheme and
// the host of the URL, or "routes".
func (f *Forwarder) Target() string { return f.sender.target() }

// Close closes idle connections.
func (f *Forwarder) Close() { f.sender.close() }

// Interface guards
var (
	_ sender = (*urlForward)(nil)
	_ sender = (*routeForward)(nil)

	_ dispatch.Attempt = (*Forwarder)(nil).Attempt
)

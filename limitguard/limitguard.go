// Package limitguard lets a handler answer the requests that a request_body before it refuses
// as too large. request_body ends a request with an error: the caller would get an empty 413,
// and nothing would be counted or logged.
package limitguard

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/requestbody"
)

func init() {
	caddy.RegisterModule(limitGuard{})
}

// Refuse answers a request whose body is over a limit in bytes.
type Refuse func(w http.ResponseWriter, r *http.Request, limit int64) error

// Install puts guards around what may refuse bodies before the handler that is being
// provisioned in ctx. server is the one that it is of; nil if there is none.
//
// The guards go into each list of routes that leads to the handler, around the routes
// before it, which are provisioned already. Of the route that is being provisioned only
// the raw config can be read.
func Install(ctx caddy.Context, server *caddyhttp.Server, refuse Refuse) error {
	var lists []caddyhttp.RouteList
	if server != nil {
		lists = append(lists, server.Routes)
	}
	for _, module := range ctx.Modules() {
		if subroute, ok := module.(*caddyhttp.Subroute); ok {
			lists = append(lists, subroute.Routes)
		}
	}
	var path []position // the innermost list first
	for _, list := range slices.Backward(lists) {
		current := slices.IndexFunc(list, func(route caddyhttp.Route) bool {
			return len(route.HandlersRaw) > 0 // Caddy clears it once the handlers are provisioned
		})
		if current < 0 {
			return nil // an error route or a named route: what comes before it is not known
		}
		path = append(path, position{list, current})
		if limitsBody(list[current].HandlersRaw) {
			// Caddy appends the handlers that it is provisioning, so the guard runs before them
			list[current].Handlers = append(list[current].Handlers, &limitGuard{refuse: refuse, path: slices.Clone(path)})
		}
		for j := range list[:current] {
			if err := guard(ctx, &list[j], path, refuse); err != nil {
				return fmt.Errorf("request_body before fotor_webhook: %w", err)
			}
		}
	}
	return nil
}

// limitsBody reports whether one of the handlers is a request_body with a limit.
func limitsBody(raw []json.RawMessage) bool {
	return slices.ContainsFunc(raw, func(config json.RawMessage) bool {
		var handler struct {
			Name    string `json:"handler"`
			MaxSize int64  `json:"max_size"`
		}
		return json.Unmarshal(config, &handler) == nil && handler.Name == "request_body" && handler.MaxSize > 0
	})
}

// guard puts a guard around a route that limits the body.
func guard(ctx caddy.Context, route *caddyhttp.Route, path []position, refuse Refuse) error {
	limiting := func(handler caddyhttp.MiddlewareHandler) bool {
		switch handler := handler.(type) {
		case *requestbody.RequestBody:
			return handler.MaxSize > 0
		case *limitGuard: // of another fotor_webhook of the site
			return handler.inner != nil
		default:
			return false
		}
	}
	others := slices.ContainsFunc(route.Handlers, func(handler caddyhttp.MiddlewareHandler) bool { return !limiting(handler) })
	if !slices.ContainsFunc(route.Handlers, limiting) || others && len(route.MatcherSets) > 0 {
		return nil // with a matcher and other handlers, it may be for other requests
	}
	outer := caddyhttp.Route{HandlersRaw: []json.RawMessage{json.RawMessage(`{"handler":"fotor_webhook_limit_guard"}`)}}
	if err := outer.ProvisionHandlers(ctx, nil); err != nil {
		return err
	}
	*outer.Handlers[0].(*limitGuard) = limitGuard{inner: new(*route), refuse: refuse, path: slices.Clone(path)}
	*route = outer
	return nil
}

// position is a list of routes, and the index of the one that leads to a handler.
type position struct {
	list    caddyhttp.RouteList
	current int
}

// reached reports whether a request would come to the route at the position.
func (p position) reached(r *http.Request) bool {
	route := &p.list[p.current]
	for i := range p.list[:p.current] {
		if other := &p.list[i]; preempts(other, route.Group) && matches(other, r) {
			return false
		}
	}
	return matches(route, r)
}

// preempts reports whether a request that matches a route probably does not come to a
// later one of the group: the route is in the group too, is terminal, or is a block with
// a matcher, such as handle.
func preempts(other *caddyhttp.Route, group string) bool {
	return other.Terminal || group != "" && other.Group == group ||
		len(other.MatcherSets) > 0 && slices.ContainsFunc(other.Handlers, func(handler caddyhttp.MiddlewareHandler) bool {
			_, ok := handler.(*caddyhttp.Subroute)
			return ok
		})
}

func matches(route *caddyhttp.Route, r *http.Request) bool {
	match, err := route.MatcherSets.AnyMatchWithError(r)
	return match && err == nil
}

// limitGuard runs a route with a request_body handler. If that refuses a request that
// would have come to a fotor_webhook handler, the latter answers it. Provision adds the
// guard; it is not for use in a config.
type limitGuard struct {
	inner  *caddyhttp.Route // nil if it guards what follows in its own route
	refuse Refuse
	path   []position
}

// CaddyModule returns the Caddy module information.
func (limitGuard) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.fotor_webhook_limit_guard",
		New: func() caddy.Module { return new(limitGuard) },
	}
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (g *limitGuard) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if g.refuse == nil {
		return errors.New("fotor_webhook_limit_guard is nothing for a config: expected fotor_webhook")
	}
	body := r.Body
	if g.inner != nil {
		next = g.inner.Compile(next)
	}
	err := next.ServeHTTP(w, r)
	tooLarge, ok := errors.AsType[*http.MaxBytesError](err)
	if !ok {
		return err
	}
	for _, p := range g.path {
		if !p.reached(r) {
			return err
		}
	}
	r.Body = body
	return g.refuse(w, r, tooLarge.Limit)
}

// Interface guard
var _ caddyhttp.MiddlewareHandler = (*limitGuard)(nil)

package fotorwebhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/requestbody"
	"go.uber.org/zap"
)

func init() {
	caddy.RegisterModule(limitGuard{})
}

// guardRequestBodies makes the answer to a callback that a request_body
// directive refuses the handler's own. Such a handler runs before this one and
// ends the request with an error, so that the caller would get an empty 413, and
// nobody would count or log it.
//
// It looks at what stands before the handler in the lists of routes that lead to
// it: routes that are provisioned already, and the raw config of the one that is
// being provisioned.
func (h *Handler) guardRequestBodies(ctx caddy.Context) error {
	var lists []caddyhttp.RouteList
	if h.server != nil {
		lists = append(lists, h.server.Routes)
	}
	for _, module := range ctx.Modules() {
		if subroute, ok := module.(*caddyhttp.Subroute); ok {
			lists = append(lists, subroute.Routes)
		}
	}
	var way []leading // from the innermost list outwards
	for _, list := range slices.Backward(lists) {
		current := 0
		for current < len(list) && len(list[current].HandlersRaw) == 0 { // which is let go of once it is read
			current++
		}
		if current == len(list) {
			return nil // it is an error route or a named one: nobody knows what comes before
		}
		way = append(way, leading{list, current})
		if limits(list[current].HandlersRaw) {
			// what is there already stays before those that are being provisioned
			list[current].Handlers = append(list[current].Handlers, &limitGuard{handler: h, way: slices.Clone(way)})
		}
		for j := range list[:current] {
			if err := h.guard(ctx, &list[j], way); err != nil {
				return fmt.Errorf("request_body before fotor_webhook: %w", err)
			}
		}
	}
	return nil
}

// limits says whether one of the handlers is a request_body with a limit.
func limits(raw []json.RawMessage) bool {
	return slices.ContainsFunc(raw, func(config json.RawMessage) bool {
		var handler struct {
			Name    string `json:"handler"`
			MaxSize int64  `json:"max_size"`
		}
		return json.Unmarshal(config, &handler) == nil && handler.Name == "request_body" && handler.MaxSize > 0
	})
}

// guard puts a guard around a route that limits the body.
func (h *Handler) guard(ctx caddy.Context, route *caddyhttp.Route, way []leading) error {
	limiting := func(handler caddyhttp.MiddlewareHandler) bool {
		rb, ok := handler.(*requestbody.RequestBody)
		return ok && rb.MaxSize > 0
	}
	others := slices.ContainsFunc(route.Handlers, func(handler caddyhttp.MiddlewareHandler) bool { return !limiting(handler) })
	if !slices.ContainsFunc(route.Handlers, limiting) || others && len(route.MatcherSets) > 0 {
		return nil // with a matcher and others, it may be the route of other requests
	}
	outer := caddyhttp.Route{HandlersRaw: []json.RawMessage{json.RawMessage(`{"handler":"fotor_webhook_limit_guard"}`)}}
	if err := outer.ProvisionHandlers(ctx, nil); err != nil {
		return err
	}
	*outer.Handlers[0].(*limitGuard) = limitGuard{inner: new(*route), handler: h, way: slices.Clone(way)}
	*route = outer
	return nil
}

// leading is a list of routes of which one leads to a handler.
type leading struct {
	list    caddyhttp.RouteList
	current int
}

// leads says whether the request goes that way.
func (l leading) leads(r *http.Request) bool {
	route := &l.list[l.current]
	for i := range l.list[:l.current] {
		if other := &l.list[i]; takes(other, route.Group) && matches(other, r) {
			return false
		}
	}
	return matches(route, r)
}

// takes says whether what matches a route before the handler's is probably kept
// from that: it is in the same group, terminal, or a block with a matcher, such
// as handle.
func takes(other *caddyhttp.Route, group string) bool {
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

// limitGuard runs a route with a request_body handler. Where that refuses a
// request that would have come to a fotor_webhook, the latter answers it. It is
// put there by Provision, and is nothing for a config.
type limitGuard struct {
	inner   *caddyhttp.Route // nil if what follows in its own route is guarded
	handler *Handler
	way     []leading
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
	if g.handler == nil {
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
	for _, l := range g.way {
		if !l.leads(r) {
			return err
		}
	}
	r.Body = body
	return g.handler.refuseLarge(w, r, tooLarge.Limit)
}

// refuseLarge answers a callback that somebody else has found to be too large.
func (h *Handler) refuseLarge(w http.ResponseWriter, r *http.Request, limit int64) error {
	start := time.Now()
	source, refusal, ok := h.admit(r, start)
	if ok {
		h.refusals.Warn("callback too large", zap.Stringer("source_ip", source),
			zap.Int64("size", r.ContentLength), zap.Int64("limit", limit))
		refusal = answerTooLarge(limit)
	}
	return h.reply(w, r, refusal.whileSending(), start)
}

// Interface guard
var _ caddyhttp.MiddlewareHandler = (*limitGuard)(nil)

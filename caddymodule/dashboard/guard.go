package dashboard

import (
	"net"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
)

// guards are what the module takes for a guard, as the warning tells it.
const guards = "basic_auth or other modules of Caddy's authentication handler, forward_auth, client certificates, a client_ip or remote_ip matcher, or a listener for this machine only"

// warnUnguarded warns if nothing decides who may read, or change something. That is a guess
// from the config: it finds a forgotten guard, not a wrong one. Whether a guard lets the
// wrong people in cannot be told.
func (h *Handler) warnUnguarded(ctx caddy.Context) {
	if h.Public {
		return
	}
	app, err := ctx.AppIfConfigured("http")
	if err != nil {
		return // there are no routes, and nobody reaches it
	}
	for name, server := range app.(*caddyhttp.App).Servers {
		h.warnOf(name, server)
	}
}

// warnOf warns of one server.
func (h *Handler) warnOf(name string, server *caddyhttp.Server) {
	warn := func(what, expected string) {
		h.logger.Warn(what, zap.String("server", name), zap.Strings("listen", server.Listen), zap.String("expected", expected))
	}
	switch unguarded := h.unguarded(server); {
	case unguarded && h.AllowActions:
		warn("anyone may change events: the dashboard has allow_actions and no guard, so whoever reaches it can purge events and quarantined callbacks for good, stop deliveries, have events delivered again, and make some up",
			guards+"; or no allow_actions")
	case unguarded:
		warn("the dashboard has no guard: whoever reaches it reads all events, the URLs of their results, and quarantined bodies",
			guards+"; or the option public, if everybody may read")
	case h.AllowActions && h.anyHost(server):
		warn("the dashboard has allow_actions, is guarded by addresses only, and answers to any host name: a web page can point a name of its own at this server, and change events through the browser of somebody whose address is let in",
			"the dashboard's host in the address of its site, such as http://localhost:8080, or another guard")
	}
}

// unguarded reports whether a server has the handler on a route without a guard.
func (h *Handler) unguarded(server *caddyhttp.Server) bool {
	l := &look{handler: h, server: server, matches: matchesAddress}
	found, guarded := l.routes(server.Routes, local(server.Listen) || clientCertificates(server), 0)
	return found && !guarded
}

// anyHost reports whether a server has the handler on a route that answers to any host name,
// and that is guarded by addresses at most. A browser sends passwords, cookies and
// certificates to the names that they are for only; but whom an address belongs to does not
// depend on the name (DNS rebinding). Where names have certificates, it needs one.
func (h *Handler) anyHost(server *caddyhttp.Server) bool {
	l := &look{handler: h, server: server, matches: matchesHost}
	found, guarded := l.routes(server.Routes, sockets(server.Listen) || len(server.TLSConnPolicies) > 0, 0)
	return found && !guarded
}

// sockets reports whether all listeners are unix sockets, which browsers do not reach.
func sockets(addresses []string) bool {
	return !slices.ContainsFunc(addresses, func(address string) bool {
		parsed, err := caddy.ParseNetworkAddress(address)
		return err != nil || !parsed.IsUnixNetwork()
	})
}

// local reports whether only this machine reaches the listeners.
func local(addresses []string) bool {
	for _, address := range addresses {
		parsed, err := caddy.ParseNetworkAddress(address)
		if err != nil {
			return false
		}
		ip := net.ParseIP(parsed.Host)
		if !parsed.IsUnixNetwork() && parsed.Host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return len(addresses) > 0
}

// clientCertificates reports whether connections need a client certificate, if only those
// to some hosts: Caddy then takes no request for a host through a connection to another.
func clientCertificates(server *caddyhttp.Server) bool {
	for _, policy := range server.TLSConnPolicies {
		if auth := policy.ClientAuthentication; auth != nil && auth.Active() && auth.Mode != "request" && auth.Mode != "verify_if_given" {
			return true
		}
	}
	return false
}

// maxDepth bounds how deep routes are looked at: named routes may invoke each other.
const maxDepth = 32

// look looks for the handler in the routes of a server.
type look struct {
	handler *Handler
	server  *caddyhttp.Server

	// matches reports whether the matchers of a route let only some pass.
	matches func(caddyhttp.MatcherSets) bool
}

// routes reports whether the handler is in a list of routes, and whether a guard is passed
// before it on each way there. guarded says whether one was passed before the list.
//
// A guard counts whatever its own matcher: whether a path such as /admin/* covers that of
// the handler is not told.
func (l *look) routes(routes caddyhttp.RouteList, guarded bool, depth int) (found, allGuarded bool) {
	allGuarded = true
	if depth > maxDepth {
		return false, true
	}
	var passed []string // the groups of the routes before that have a guard
	for i := range routes {
		route := &routes[i]
		group := route.Group
		here := guarded || l.matches(route.MatcherSets) ||
			slices.ContainsFunc(passed, func(other string) bool { return other == "" || other != group }) // only one of a group is taken
		for _, handler := range route.Handlers {
			there, well := l.inside(handler, here, depth)
			found = found || there
			allGuarded = allGuarded && (!there || well)
			here = here || isGuard(handler)
		}
		// what a route lets pass goes on to the next ones, unless it is the last
		for _, handler := range route.Handlers {
			if isGuard(handler) && !route.Terminal || refuses(handler) && l.matches(route.MatcherSets) {
				passed = append(passed, group)
			}
		}
	}
	return found, allGuarded
}

// inside looks at one handler and at the routes in it.
func (l *look) inside(handler caddyhttp.MiddlewareHandler, guarded bool, depth int) (found, allGuarded bool) {
	switch m := handler.(type) {
	case *Handler:
		return m == l.handler, guarded
	case *caddyhttp.Subroute:
		return l.routes(m.Routes, guarded, depth+1)
	case *caddyhttp.Invoke:
		if route := l.server.NamedRoutes[m.Name]; route != nil {
			return l.routes(caddyhttp.RouteList{*route}, guarded, depth+1)
		}
	}
	return false, true
}

// isGuard reports whether a handler lets only some pass. One inside a subroute does not
// count for what comes after that, such as in another handle.
func isGuard(handler caddyhttp.MiddlewareHandler) bool {
	switch m := handler.(type) {
	case *caddyauth.Authentication:
		return true
	case *reverseproxy.Handler:
		return len(m.HandleResponse) > 0 // forward_auth goes on after a 2xx answer
	}
	return false
}

// refuses reports whether a handler ends a request, as `respond`, `abort` and `error` do.
func refuses(handler caddyhttp.MiddlewareHandler) bool {
	switch handler.(type) {
	case *caddyhttp.StaticResponse, *caddyhttp.StaticError:
		return true
	}
	return false
}

// matchesAddress reports whether matchers look at the address of the client.
func matchesAddress(sets caddyhttp.MatcherSets) bool {
	return matches(sets, func(matcher any) bool {
		switch matcher.(type) {
		case *caddyhttp.MatchClientIP, *caddyhttp.MatchRemoteIP:
			return true
		}
		return false
	})
}

// matchesHost reports whether matchers look at the name of the host that is asked for.
func matchesHost(sets caddyhttp.MatcherSets) bool {
	return matches(sets, func(matcher any) bool {
		_, ok := matcher.(*caddyhttp.MatchHost)
		return ok
	})
}

func matches(sets caddyhttp.MatcherSets, is func(matcher any) bool) bool {
	for _, set := range sets {
		for _, matcher := range set {
			if not, ok := matcher.(*caddyhttp.MatchNot); is(matcher) || ok && matches(not.MatcherSets, is) {
				return true
			}
		}
	}
	return false
}

// Package admin is the gateway's part of Caddy's admin API, below /fotor_webhook/. It
// shows what has arrived, what was delivered, and what was not and why; and it can
// deliver again, hold deliveries and empty the quarantine. docs/admin-api.md describes
// it for users, docs/openapi.yaml exactly.
//
// Read the files in this order:
//   - admin.go: the routes, and what every request goes through
//   - params.go: parameters and bodies of requests; destinations.go: those that name
//     destinations
//   - handlers.go (with process.go), events.go, find.go, copy.go, tasks.go,
//     quarantine.go: what the routes of these do
//   - bulk.go: replay and purge by filter; stream.go: the stream of notices;
//     backup.go: a copy of the inbox
package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func init() {
	caddy.RegisterModule(new(API))
}

// API serves the gateway's routes on Caddy's admin endpoint. It is there whenever the
// module is built in, and needs no configuration. It looks the handler up for each
// request, so that reloads make no difference.
type API struct {
	ctx    caddy.Context
	logger *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (*API) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.fotor_webhook",
		New: func() caddy.Module { return new(API) },
	}
}

// Provision sets up the API.
func (a *API) Provision(ctx caddy.Context) error {
	a.ctx = ctx
	a.logger = ctx.Logger(a)
	return nil
}

// Routes returns the admin routes.
func (a *API) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: control.Root, Handler: caddy.AdminHandlerFunc(a.serve)}}
}

// call is one request to a route.
type call struct {
	*API
	w http.ResponseWriter
	r *http.Request

	// gateway is the handler named in the path; nil if the path names none.
	gateway control.Gateway
	id      string
}

// route is one path of the API and what its methods do. A segment in braces matches any
// text. The first route that matches is taken.
type route struct {
	path    string
	methods methods
}

type methods = map[string]func(*call) error

var routes = []route{
	{"", methods{http.MethodGet: (*call).listHandlers}},
	{"{name}", methods{http.MethodGet: (*call).showHandler}},
	{"{name}/history", methods{http.MethodGet: (*call).history}},
	{"{name}/explain", methods{http.MethodGet: (*call).explain}},
	{"{name}/backup", methods{http.MethodGet: (*call).backup}},
	{"{name}/hold", methods{http.MethodPost: (*call).hold}},
	{"{name}/resume", methods{http.MethodPost: (*call).resume}},
	{"{name}/replay", methods{http.MethodPost: (*call).replayMany}},
	{"{name}/purge", methods{http.MethodPost: (*call).purgeMany}},
	{"{name}/find", methods{http.MethodGet: (*call).find}},
	{"{name}/events", methods{http.MethodGet: (*call).listEvents}},
	{"{name}/events/stream", methods{http.MethodGet: (*call).follow}},
	{"{name}/events/{id}", methods{http.MethodGet: (*call).showEvent, http.MethodDelete: (*call).purgeEvent}},
	{"{name}/events/{id}/copy", methods{http.MethodPost: (*call).copyEvent}},
	{"{name}/events/{id}/replay", methods{http.MethodPost: (*call).replayEvent}},
	{"{name}/tasks", methods{http.MethodGet: (*call).listTasks, http.MethodPost: (*call).track}},
	{"{name}/tasks/{id}", methods{http.MethodGet: (*call).showTask, http.MethodDelete: (*call).untrack}},
	{"{name}/quarantine", methods{http.MethodGet: (*call).listQuarantine}},
	{"{name}/quarantine/{id}", methods{http.MethodGet: (*call).showQuarantined, http.MethodDelete: (*call).deleteQuarantined}},
	{"{name}/quarantine/{id}/release", methods{http.MethodPost: (*call).release}},
}

// match returns whether the path matches, and the values of the segments in braces.
func (rt *route) match(path string) (vars map[string]string, ok bool) {
	want, got := strings.Split(rt.path, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return nil, false
	}
	vars = make(map[string]string)
	for i, segment := range want {
		switch {
		case strings.HasPrefix(segment, "{") && got[i] != "":
			vars[segment] = got[i]
		case segment != got[i]:
			return nil, false
		}
	}
	return vars, true
}

// serve finds the route of a request.
func (a *API) serve(w http.ResponseWriter, r *http.Request) error {
	// Not decoded: names and ids have no characters that are encoded, except for those of
	// tasks, which may have a slash.
	path := strings.TrimPrefix(r.URL.EscapedPath(), control.Root)
	for i := range routes {
		vars, ok := routes[i].match(path)
		if !ok {
			continue
		}
		do := routes[i].methods[r.Method]
		if do == nil {
			allowed := allowedMethods(routes[i].methods)
			w.Header().Set("Allow", allowed)
			return failure(http.StatusMethodNotAllowed, fmt.Errorf("method %.16q: expected %s", r.Method, allowed))
		}
		return a.run(&call{API: a, w: w, r: r, id: vars["{id}"]}, vars["{name}"], do)
	}
	return failure(http.StatusNotFound, errors.New("no such path; docs/admin-api.md lists those that there are"))
}

func allowedMethods(m methods) string {
	allowed := make([]string, 0, len(m))
	for method := range m {
		allowed = append(allowed, method)
	}
	slices.Sort(allowed)
	return strings.Join(allowed, ", ")
}

// run opens the handler that the path names, if it names one, and answers the request.
func (a *API) run(c *call, name string, do func(*call) error) (err error) {
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.Header().Set("X-Content-Type-Options", "nosniff")
	if name == "" {
		return do(c)
	}
	if !control.ValidName(name) {
		return failure(http.StatusNotFound, errors.New("that is no handler's name: expected 1 to 64 letters, digits, '_' or '-'"))
	}
	c.gateway, err = control.Open(name)
	if err != nil {
		return failure(http.StatusNotFound, fmt.Errorf("handler %q: %w", name, err))
	}
	defer a.close(c.gateway, name)
	return do(c)
}

// close ends the use of a handler.
func (a *API) close(gateway control.Gateway, name string) {
	if err := gateway.Close(); err != nil {
		a.logger.Error("after the last request", zap.String("handler", name), zap.Error(err))
	}
}

// failure returns an error with a status, in the form of Caddy's own API.
func failure(status int, err error) error {
	return caddy.APIError{HTTPStatus: status, Err: err}
}

// inboxFailure returns an inbox's error with the status that belongs to it.
func inboxFailure(err error) error {
	status := http.StatusServiceUnavailable
	switch {
	case errors.Is(err, inbox.ErrNotFound), errors.Is(err, control.ErrNoDestination):
		status = http.StatusNotFound
	case errors.Is(err, inbox.ErrState):
		status = http.StatusConflict
	}
	return failure(status, err)
}

// audit logs a change that was made by hand.
func (c *call) audit(what string, fields ...zap.Field) {
	c.logger.Info(what, append([]zap.Field{
		zap.String("handler", handlerName(c.r)),
		zap.String("remote", c.r.RemoteAddr),
	}, fields...)...)
}

// handlerName returns the name in the path, which has been checked.
func handlerName(r *http.Request) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, control.Root), "/")
	return name
}

// context returns a context that ends with the request, or when Caddy exits, which must
// not wait for a long replay. A reload does not end it.
func (c *call) context() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(c.r.Context())
	stop := context.AfterFunc(c.ctx, func() {
		if caddy.Exiting() {
			cancel()
		}
	})
	return ctx, func() {
		stop()
		cancel()
	}
}

// Interface guards
var (
	_ caddy.AdminRouter = (*API)(nil)
	_ caddy.Provisioner = (*API)(nil)
)

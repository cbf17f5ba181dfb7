package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/placeholder"
)

// routeForward sends events through HTTP routes: an attempt is an internal
// request that runs through them as one from outside would.
type routeForward struct {
	options *Options
	server  *caddyhttp.Server
	chain   caddyhttp.Handler
}

// The addresses of the internal request, which has no connection. Handlers such as
// reverse_proxy read them.
const (
	internalHost   = "localhost"
	internalRemote = "127.0.0.1:0"
)

var internalLocal = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}

func newRouteForward(ctx caddy.Context, o *Options) (*routeForward, error) {
	routes := o.Routes
	if err := routes.ProvisionMatchers(ctx); err != nil {
		return nil, err
	}
	var metrics *caddyhttp.Metrics
	if o.App != nil {
		metrics = o.App.Metrics
	}
	if err := routes.ProvisionHandlers(ctx, metrics); err != nil {
		return nil, err
	}
	bufferRequests(routes)
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		// handlers only read the server's settings
		server = new(caddyhttp.Server)
	}
	return &routeForward{options: o, server: server, chain: routes.Compile(unhandled)}, nil
}

var errUnhandled = errors.New("no route of the forward answered: expected one that does, such as reverse_proxy")

// unhandled ends the routes. Without it an unanswered request would look like
// an empty answer.
var unhandled = caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
	return errUnhandled
})

func (f *routeForward) attempt(ctx context.Context, lease *inbox.Lease) dispatch.Result {
	ctx = context.WithValue(ctx, http.LocalAddrContextKey, internalLocal)
	target := &url.URL{Path: "/"}
	r := f.options.request(ctx, target, lease, time.Now())
	r.Host, r.RemoteAddr, r.RequestURI = internalHost, internalRemote, "/"
	r.Body = &replayedBody{data: lease.Event.Body}

	w := &answerWriter{header: make(http.Header)}
	repl := caddy.NewReplacer()
	r = caddyhttp.PrepareRequest(r, repl, w, f.server)
	placeholder.OfAttempt(repl, f.options.Destination, lease)
	err := runRoutes(f.chain, w, r)
	switch {
	case w.cut, w.successful() && errors.Is(ctx.Err(), context.DeadlineExceeded) && (err == nil || errors.Is(err, errBrokenOff)):
		// the answer is too long, in bytes or time, but its status has come
		return result(w.status, w.header, w.kept)
	case err != nil:
		return routesFailed(ctx, err, w.header)
	case ctx.Err() != nil:
		// reverse_proxy answers a cancelled attempt without an error
		return noAnswer(ctx, ctx.Err())
	case w.status == 0 && switchedProtocols(repl):
		return result(http.StatusSwitchingProtocols, w.header, nil)
	case w.status == 0:
		return noAnswer(ctx, errUnhandled)
	}
	return result(w.status, w.header, w.kept)
}

func (*routeForward) target() string { return "routes" }

// close does nothing: Caddy cleans up what the routes have loaded.
func (*routeForward) close() {}

// switchedProtocols reports whether the last reverse_proxy was answered 101, which it
// passes on only if the request asked for that.
func switchedProtocols(repl *caddy.Replacer) bool {
	status, _ := repl.Get("http.reverse_proxy.status_code")
	return status == http.StatusSwitchingProtocols
}

var errBrokenOff = errors.New("the upstream's answer broke off")

// runRoutes runs the request through the routes. A panic in a handler is an
// error: http.ErrAbortHandler, for one, is how reverse_proxy says that the
// upstream's answer broke off after its status was passed on.
func runRoutes(chain caddyhttp.Handler, w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			err = errBrokenOff
		default:
			err = fmt.Errorf("panic in the forward's routes: %v", p)
		}
	}()
	return chain.ServeHTTP(w, r)
}

// routesFailed is the result of an attempt that the routes ended with an error: because
// no upstream answered, by an error directive, or by a handler such as rate_limit, which
// has set Retry-After before.
func routesFailed(ctx context.Context, err error, header http.Header) dispatch.Result {
	var handlerError caddyhttp.HandlerError
	if !errors.As(err, &handlerError) {
		return noAnswer(ctx, err)
	}
	cause := handlerError.Err
	if cause == nil {
		cause = err
	}
	switch handlerError.StatusCode {
	case 0, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if handlerError.StatusCode == 0 || header.Get("Retry-After") == "" {
			return noAnswer(ctx, cause)
		}
	}
	return result(handlerError.StatusCode, header, []byte(cause.Error()))
}

// answerWriter keeps the routes' answer: its status, its headers and the beginning of its
// body. Writing more than maxAnswer fails, so that an endless answer ends.
type answerWriter struct {
	header http.Header
	status int
	kept   []byte
	size   int
	cut    bool
}

var errLongAnswer = fmt.Errorf("the answer has more than %d bytes: the rest is not read", maxAnswer)

func (w *answerWriter) successful() bool { return w.status >= 200 && w.status <= 299 }

// Header implements http.ResponseWriter.
func (w *answerWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter. It ignores informational statuses, except
// a switch of protocols, which ends the exchange.
func (w *answerWriter) WriteHeader(status int) {
	if w.status != 0 || (status < 200 && status != http.StatusSwitchingProtocols) {
		return
	}
	w.status = status
}

// Write implements http.ResponseWriter.
func (w *answerWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if room := keptAnswer - len(w.kept); room > 0 {
		w.kept = append(w.kept, p[:min(room, len(p))]...)
	}
	if w.size += len(p); w.size > maxAnswer {
		w.cut = true
		return 0, errLongAnswer
	}
	return len(p), nil
}

// Interface guard
var _ http.ResponseWriter = (*answerWriter)(nil)

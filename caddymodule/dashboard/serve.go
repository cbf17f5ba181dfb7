package dashboard

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// The last parts of the paths of the pages. All pages are beside each other, and the last
// part of a path alone says which one it is: the prefix below which the dashboard is need
// not be known, whether Caddy has stripped it or not, and links are right in any place.
const (
	leafOverview    = ""
	leafEvents      = "events"
	leafEvent       = "event"
	leafProblems    = "problems"
	leafQuarantined = "quarantined"
	leafWhitelist   = "whitelist"
	leafChart       = "chart"
	leafLive        = "live"
)

// site answers the requests of one handler of Caddy.
type site struct {
	handler *Handler
	policy  string
	mux     *http.ServeMux
}

func newSite(h *Handler) *site {
	s := &site{handler: h, policy: policy(h.ImageHosts), mux: http.NewServeMux()}
	for leaf, show := range map[string]func(*visit) error{
		leafOverview:    (*visit).overview,
		leafEvents:      (*visit).events,
		leafEvent:       (*visit).event,
		leafProblems:    (*visit).problems,
		leafQuarantined: (*visit).quarantined,
		leafWhitelist:   (*visit).whitelist,
		leafChart:       (*visit).chart,
		leafLive:        (*visit).live,
	} {
		pattern := "GET /" + leaf
		if leaf == leafOverview {
			pattern += "{$}"
		}
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.visit(w, r, leaf, show)
		})
	}
	if h.AllowActions {
		s.addActions()
	}
	for _, a := range assets {
		s.mux.Handle("GET /"+a.name, a)
	}
	s.mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		s.visit(w, r, "-", func(*visit) error {
			return &failure{http.StatusNotFound, errors.New("the address may be mistyped, or the page may have moved")}
		})
	})
	return s
}

// serve answers a request.
func (s *site) serve(w http.ResponseWriter, r *http.Request) error {
	s.setHeaders(w.Header())
	leaf := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead && !s.takes(r, leaf):
		w.Header().Set("Allow", "GET, HEAD")
		return caddyhttp.Error(http.StatusMethodNotAllowed, errors.New("the dashboard takes GET and HEAD"))
	case leaf == "" && !strings.HasSuffix(asked(r), "/"): // a prefix was stripped that had no slash after it
		addSlash(w, asked(r))
		return nil
	case leaf == "." || leaf == "..": // these mean other places
		return caddyhttp.Error(http.StatusNotFound, errors.New("no page has this name"))
	}
	inner := new(http.Request)
	*inner = *r
	inner.URL = &url.URL{Path: "/" + leaf, RawQuery: r.URL.RawQuery}
	s.mux.ServeHTTP(w, inner)
	return nil
}

// asked returns the path that the client has asked for.
func asked(r *http.Request) string {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		return original.URL.Path
	}
	return r.URL.Path
}

// addSlash sends the client to the same path with a slash at its end: only from there do
// relative links lead to the pages.
func addSlash(w http.ResponseWriter, path string) {
	w.Header().Set("Location", "./"+url.PathEscape(path[strings.LastIndexByte(path, '/')+1:])+"/")
	w.WriteHeader(http.StatusPermanentRedirect)
}

// failure is an error that a page tells, with its status.
type failure struct {
	status int
	err    error
}

func (f *failure) Error() string { return f.err.Error() }

func (f *failure) Unwrap() error { return f.err }

// badRequest is a failure of the client.
func badRequest(err error) error { return &failure{http.StatusBadRequest, err} }

// statusOf returns the status that belongs to an error, as in the admin API.
func statusOf(err error) int {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.status
	}
	switch {
	case errors.Is(err, inbox.ErrNotFound), errors.Is(err, control.ErrNoHandler):
		return http.StatusNotFound
	case errors.Is(err, inbox.ErrCursor):
		return http.StatusBadRequest
	}
	return http.StatusServiceUnavailable
}

// visit is one request for a page.
type visit struct {
	*site
	w http.ResponseWriter
	r *http.Request

	leaf  string
	names []string // of the running handlers
	began time.Time

	// notice tells what came of the action that led to the page; nil if none did.
	notice *notice

	// name and gateway are the handler that the page is about; "" and nil on pages about
	// all of them.
	name    string
	gateway control.Gateway
}

func (s *site) visit(w http.ResponseWriter, r *http.Request, leaf string, show func(*visit) error) {
	v := &visit{site: s, w: w, r: r, leaf: leaf, names: control.Names()}
	if s.handler.AllowActions {
		v.notice, v.r = told.take(r)
	}
	v.began = time.Now()
	defer v.close()
	err := show(v)
	switch {
	case err == nil:
	case r.Context().Err() != nil: // nobody waits for an answer
	default:
		v.showFailure(err)
	}
}

func (v *visit) close() {
	if v.gateway != nil {
		v.closeGateway(v.gateway, v.name)
	}
}

func (s *site) closeGateway(gateway control.Gateway, name string) {
	if err := gateway.Close(); err != nil {
		s.handler.logger.Error("after the last request", zap.String("handler", name), zap.Error(err))
	}
}

// errNoneRuns is shown with what to do about it.
var errNoneRuns = errors.New("no handler is running")

// open opens the handler that the request names, or the first one. It is closed with the
// visit.
func (v *visit) open(name string) error {
	if len(v.names) == 0 {
		return &failure{http.StatusNotFound, errNoneRuns}
	}
	if name == "" {
		name = v.names[0]
	}
	gateway, err := control.Open(name)
	if err != nil {
		return err
	}
	v.name, v.gateway = name, gateway
	return nil
}

package dashboard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/query"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/logfield"
)

// The last parts of the paths of what changes something. Those with a page of their own
// answer GET too.
const (
	leafReplay       = "replay"
	leafMove         = "move"
	leafPurge        = "purge" // has a page
	leafHold         = "hold"  // has a page
	leafResume       = "resume"
	leafRelease      = "release"
	leafDiscard      = "discard" // has a page
	leafReplayGroup  = "replay-group"
	leafReleaseGroup = "release-group"
	leafTry          = "try" // has a page
)

// action is something that changes, asked for with a form.
type action struct {
	fields []string // of the form, beside handler
	text   string   // a field that may be longer than others
	do     func(v *visit, p *query.Params) (*outcome, error)

	// page is the page with the form; nil if the form is on other pages.
	page func(*visit) error
}

var actions = map[string]*action{
	leafReplay:       {fields: []string{"id", "destination"}, do: (*visit).replay},
	leafMove:         {fields: []string{"id", "destination", "to"}, do: (*visit).move},
	leafPurge:        {fields: []string{"id", "destination"}, do: (*visit).purge, page: (*visit).purgePage},
	leafHold:         {fields: []string{"destination", "reason", "for"}, do: (*visit).hold, page: (*visit).holdPage},
	leafResume:       {fields: []string{"destination"}, do: (*visit).resume},
	leafRelease:      {fields: []string{"id"}, do: (*visit).release},
	leafDiscard:      {fields: []string{"id"}, do: (*visit).discard, page: (*visit).discardPage},
	leafReplayGroup:  {fields: []string{"destination", "status", "reason", "cursor", "before"}, do: (*visit).replayGroup},
	leafReleaseGroup: {fields: []string{"group", "cursor", "before"}, do: (*visit).releaseGroup},
	leafTry:          {fields: []string{"type", "status", "sensitive", "task", "by_hand"}, text: "body", do: (*visit).try, page: (*visit).tryPage},
}

// outcome is what came of an action.
type outcome struct {
	notice

	to   string // the link to the page to go back to
	more string // if it fails, what has been done before
	some bool   // some of it is done, even if it fails

	// what and fields are its line in the log, unless nothing is done.
	what   string
	fields []zap.Field
}

const (
	// mostForm bounds a form, in bytes, and mostText the field that may be long. In a
	// form a byte of a text takes up to three.
	mostForm = 64 << 10
	mostText = 4 << 20

	// formTime is how long a form may take to arrive, and actionTime how long the inbox may
	// take for a change.
	formTime   = 30 * time.Second
	actionTime = 15 * time.Second
)

// longForms bounds how many forms that may be long are in memory at once.
var longForms = make(chan struct{}, 4)

// addActions adds the pages with forms, and what else is asked for by mistake: to come
// back from a login, say, to a form that was sent.
func (s *site) addActions() {
	for leaf, a := range actions {
		s.mux.HandleFunc("POST /"+leaf, func(w http.ResponseWriter, r *http.Request) {
			s.visit(w, r, leaf, func(v *visit) error { return v.act(a) }) //nolint:contextcheck // it uses that of the request
		})
		show := a.page
		if show == nil {
			show = func(v *visit) error {
				v.w.Header().Set("Allow", http.MethodPost)
				return &failure{http.StatusMethodNotAllowed, errors.New("a button does that: go to the page that has it, and press it again")}
			}
		}
		s.mux.HandleFunc("GET /"+leaf, func(w http.ResponseWriter, r *http.Request) { s.visit(w, r, leaf, show) })
	}
}

// takes reports whether a request may change something.
func (s *site) takes(r *http.Request, leaf string) bool {
	return s.handler.AllowActions && r.Method == http.MethodPost && actions[leaf] != nil
}

// errForeign is shown as it is.
var errForeign = errors.New("Nothing was done: the request comes from a page of another site. If it was a page of this dashboard, a proxy in between changes the header Host.") //nolint:staticcheck // whole sentences

// acting returns the name of the handler as forms need it; "" if nothing may be changed.
func (v *visit) acting() string {
	if !v.handler.AllowActions {
		return ""
	}
	return v.name
}

// act does what a form asks for, and goes back to a page that tells what came of it.
func (v *visit) act(a *action) error {
	if err := http.NewCrossOriginProtection().Check(v.r); err != nil {
		v.handler.logger.Warn("action refused: it does not come from a page of the dashboard", append(v.who(),
			zap.String("action", v.leaf),
			zap.String("host", logfield.Cut(v.r.Host)),
			zap.String("origin", logfield.Cut(v.r.Header.Get("Origin"))),
			zap.String("sec_fetch_site", logfield.Cut(v.r.Header.Get("Sec-Fetch-Site"))),
			zap.Error(err))...)
		return &failure{http.StatusForbidden, errForeign}
	}
	if a.text != "" {
		select {
		case longForms <- struct{}{}:
			defer func() { <-longForms }()
		case <-v.r.Context().Done():
			return v.r.Context().Err()
		}
	}
	p, err := v.form(a)
	if err != nil {
		return err
	}
	name := p.Text("handler")
	if name == "" {
		p.Fail("handler", "it is missing: expected the name of a handler")
	}
	if err := p.Err(); err != nil {
		return badRequest(err)
	}
	o := &outcome{to: href(leafOverview)}
	if err = v.open(name); err == nil {
		o, err = a.do(v, p)
	} else {
		v.name = value(name, cutCell)
	}
	if o == nil {
		return err
	}
	if err != nil {
		o.Class, o.Text = isBad, notDone(err)+o.more
		if !o.some { // who counts what was done must not count this
			o.what = notDoneLine(err)
		}
	}
	v.handler.logger.Info(o.what, slices.Concat(
		[]zap.Field{zap.String("action", v.leaf), zap.String("handler", v.name)}, o.fields, v.who(),
		[]zap.Field{zap.String("result", logfield.Cut(o.Text)), zap.Error(err)})...)
	v.goBack(o)
	return nil
}

// goBack sends the client to a page that tells what came of an action.
func (v *visit) goBack(o *outcome) {
	link, fragment, _ := strings.Cut(o.to, "#")
	separator := "?"
	if strings.Contains(link, "?") {
		separator = "&"
	}
	if fragment == "" {
		fragment = noticeParam
	}
	v.redirect(link + separator + noticeParam + "=" + told.add(o.notice) + "#" + fragment)
}

// who returns who asks, as the log has it.
func (v *visit) who() []zap.Field {
	client, _ := caddyhttp.GetVar(v.r.Context(), caddyhttp.ClientIPVarKey).(string)
	return []zap.Field{zap.String("user", v.user()), zap.String("client_ip", client), zap.String("remote", v.r.RemoteAddr)}
}

// user returns the name of the user that Caddy has authenticated; "" if it has none.
func (v *visit) user() string {
	repl, ok := v.r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	name, _ := repl.GetString("http.auth.user.id")
	return logfield.Cut(name)
}

// form reads the form that was sent. Fields that are empty are as if they were not there.
func (v *visit) form(a *action) (*query.Params, error) {
	if media, _, _ := mime.ParseMediaType(v.r.Header.Get("Content-Type")); media != "application/x-www-form-urlencoded" {
		return nil, &failure{http.StatusUnsupportedMediaType, fmt.Errorf("the media type is %.80q: expected application/x-www-form-urlencoded, as a form sends it", media)}
	}
	if v.r.URL.RawQuery != "" {
		return nil, badRequest(errors.New("the address has a query: expected fields of the form only"))
	}
	most := int64(mostForm)
	if a.text != "" {
		most = 3*mostText + mostForm
	}
	connection := http.NewResponseController(v.w)
	if connection.SetReadDeadline(time.Now().Add(formTime)) == nil { // other handlers may hide the connection
		defer func() { _ = connection.SetReadDeadline(time.Time{}) }() // fails if the client has gone
	}
	content, err := io.ReadAll(http.MaxBytesReader(v.w, v.r.Body, most))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &failure{http.StatusRequestEntityTooLarge, fmt.Errorf("the form has more than %d bytes", tooLarge.Limit)}
	}
	if err != nil {
		return nil, badRequest(fmt.Errorf("reading the form: %w", err))
	}
	values, err := url.ParseQuery(string(content))
	if err != nil {
		return nil, badRequest(fmt.Errorf("the form cannot be read: %w", err))
	}
	for name, given := range values {
		if len(given) == 1 && given[0] == "" {
			delete(values, name)
		}
	}
	var text []string
	if a.text != "" {
		text = values[a.text]
		delete(values, a.text)
	}
	p := query.Of(values, append([]string{"handler"}, a.fields...)...)
	switch {
	case len(text) > 1:
		p.Fail(a.text, "it is given %d times: expected once", len(text))
	case len(text) == 1 && len(text[0]) > mostText:
		p.Fail(a.text, "it has %d bytes: expected at most %d", len(text[0]), mostText)
	case len(text) == 1:
		p.Values[a.text] = text
	}
	if err := p.Err(); err != nil {
		return nil, badRequest(err)
	}
	return p, nil
}

// within returns the context of a change: it ends with the request, or after a while.
func (v *visit) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(v.r.Context(), actionTime)
}

// notDoneLine is the message in the log of an action that failed.
func notDoneLine(err error) string {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return "action may be done or not"
	}
	return "action not done"
}

// notDone says why an action failed.
func notDone(err error) string {
	invalid, ok := errors.AsType[*control.InvalidError](err)
	switch {
	case ok:
		return "Not released: " + stillInvalid(invalid)
	case errors.Is(err, control.ErrNoDestination):
		return "Not done: " + err.Error() + ". A reload may have changed that."
	case errors.Is(err, control.ErrNoHandler), errors.Is(err, errNoneRuns):
		return "Not done: no running handler has this name any more. A reload may have removed it."
	case errors.Is(err, inbox.ErrNotFound):
		return "Not done: it is not there any more. It was purged, or has been kept for as long as it is kept."
	case errors.Is(err, inbox.ErrState):
		return "Not done: it is being delivered just now, or somebody else is changing it. Try again in a moment."
	case errors.Is(err, inbox.ErrFull):
		return "Not done: the inbox is full. Make room first: raise its limit, or purge what nobody needs."
	case errors.Is(err, inbox.ErrBroken):
		return "Not done: " + err.Error()
	case errors.Is(err, errBusy):
		return "Not done: " + err.Error() + ". Try again in a moment."
	case errors.Is(err, context.Canceled):
		return "Ended: the browser has not waited for it."
	case errors.Is(err, context.DeadlineExceeded):
		return "The inbox has not answered in time, so it may be done or not. Look, and try again."
	default:
		return "Not done: the inbox does not do it: " + err.Error()
	}
}

// stillInvalid says why a callback stays in quarantine.
func stillInvalid(e *control.InvalidError) string {
	text := "it is still not valid by today's rules"
	if len(e.Problems) > 0 {
		first := e.Problems[0]
		text += ": " + strings.TrimSpace(value(first.Pointer, cutCell)+" "+cut(first.Detail, cutLine))
	}
	if more := len(e.Problems) - 1; more > 0 {
		text += fmt.Sprintf(", and %s", plural(int64(more), "more problem"))
	}
	return text + "."
}

package dashboard

import (
	"bytes"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"
)

//go:embed pages
var pageFiles embed.FS

// templates are those of the pages, each with the frame that all have.
var templates = loadTemplates("overview", "events", "event", "problems", "quarantined", "whitelist", "failure",
	"confirm", "hold", "try")

func loadTemplates(names ...string) map[string]*template.Template {
	frame := template.Must(template.New("frame.html").Funcs(functions).ParseFS(pageFiles, "pages/frame.html", "pages/parts.html", "pages/actions.html"))
	loaded := make(map[string]*template.Template, len(names))
	for _, name := range names {
		loaded[name] = template.Must(template.Must(frame.Clone()).ParseFS(pageFiles, "pages/"+name+".html"))
	}
	return loaded
}

// frame is what all pages have.
type frame struct {
	Title string
	Nav   []navigation

	// Switch leads to the same page about another handler; empty if there is none.
	Switch []navigation

	// Live is where the page is told that something has happened; "" if it does not move.
	Live string
	Now  time.Time

	// Handler is the handler that the page is about, as parameters of links have it: "" if
	// there is only one.
	Handler string

	// Notice tells what came of an action; nil if there is nothing to tell.
	Notice *notice

	Page any // what the page itself shows
}

// navigation is a link to a page.
type navigation struct {
	Label, Link string
	Current     bool
}

// one returns the name of the handler as links need it.
func (v *visit) one() string {
	if len(v.names) < 2 {
		return ""
	}
	return v.name
}

func (v *visit) frame(title string, page any) *frame {
	f := &frame{Title: title, Now: time.Now().UTC(), Handler: v.one(), Notice: v.notice, Page: page}
	for _, to := range []struct{ label, leaf string }{
		{"Overview", leafOverview}, {"Events", leafEvents}, {"Problems", leafProblems}, {"Whitelist", leafWhitelist}, {"Try it", leafTry},
	} {
		if to.leaf == leafTry && !v.handler.AllowActions {
			continue
		}
		handler := f.Handler
		if to.leaf == leafOverview {
			handler = ""
		}
		f.Nav = append(f.Nav, navigation{to.label, href(to.leaf, "handler", handler), to.leaf == v.leaf})
	}
	if f.Handler != "" && slices.Contains([]string{leafEvents, leafProblems, leafWhitelist, leafTry}, v.leaf) {
		for _, name := range v.names {
			f.Switch = append(f.Switch, navigation{name, href(v.leaf, "handler", name), name == v.name})
		}
	}
	return f
}

// show answers with a page that is told when something happens.
func (v *visit) show(template, title string, page any) error {
	f := v.frame(title, page)
	f.Live = href(leafLive, "handler", f.Handler)
	return v.write(http.StatusOK, template, f)
}

func (v *visit) write(status int, template string, f *frame) error {
	var b bytes.Buffer
	if err := templates[template].ExecuteTemplate(&b, "frame.html", f); err != nil {
		return &failure{http.StatusInternalServerError, err}
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.Header().Set(pauseHeader, strconv.FormatInt(pause(time.Since(v.began)).Milliseconds(), 10))
	writeZipped(v.w, v.r, status, b.Bytes(), zip)
	return nil
}

// failed is what a page about a failure shows.
type failed struct {
	Status  int
	Title   string
	Reason  string
	NoneRun bool
}

var failureTitles = map[int]string{
	http.StatusBadRequest:         "That cannot be shown",
	http.StatusForbidden:          "Refused",
	http.StatusMethodNotAllowed:   "Nothing was done",
	http.StatusNotFound:           "There is nothing here",
	http.StatusServiceUnavailable: "The inbox does not answer",
}

// showFailure answers with a page that says what went wrong.
func (v *visit) showFailure(err error) {
	status := statusOf(err)
	title := failureTitles[status]
	reason := err.Error()
	if status >= http.StatusInternalServerError {
		v.handler.logger.Error("page not shown", zap.String("page", v.leaf), zap.Int("status", status), zap.Error(err))
	}
	if v.r.Method == http.MethodPost && status < http.StatusInternalServerError && status != http.StatusForbidden {
		title = "That cannot be done"
	}
	if title == "" {
		title, reason = "Something went wrong", "Caddy's log says more."
	}
	f := v.frame(title, failed{Status: status, Title: title, Reason: reason, NoneRun: errors.Is(err, errNoneRuns)})
	if err := v.write(status, "failure", f); err != nil {
		v.handler.logger.Error("page not shown", zap.String("page", v.leaf), zap.Error(err))
		v.w.WriteHeader(http.StatusInternalServerError)
	}
}

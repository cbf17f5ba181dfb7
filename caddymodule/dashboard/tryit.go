package dashboard

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/query"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sample"
)

// tryView is the form that sends a callback, and what became of the last one.
type tryView struct {
	Handler     string // the handler's name
	Link        string // as links need it
	Client      string
	Explanation control.Explanation

	Types, Statuses    []string
	Type, Status, Task string
	Sensitive          bool
	Body               string // to be changed by hand

	Tried *tried
	Event *control.EventDetail // of what was accepted, as it is now
}

// tried is what became of a callback that was sent.
type tried struct {
	Status     int
	StatusText string
	Client     string
	Answer     string // as it came
	Body       string // what was sent; "" if it is too long to be kept

	// What the answer says. ID is that of the event, "" if there is none.
	ID            string
	Duplicate     bool
	Title, Detail string
	Problems      []control.Problem
	More          int // problems beyond those
}

// mostKept bounds what is kept of a callback that was sent, and of its answer, in bytes.
const mostKept = 64 << 10

// client returns the address of the page's user; the zero value if it is not known.
func (v *visit) client() netip.Addr {
	text, _ := caddyhttp.GetVar(v.r.Context(), caddyhttp.ClientIPVarKey).(string)
	addr, _ := netip.ParseAddr(text) // an error leaves the zero value
	return addr
}

// kindOf reads the form that a callback is made from.
func kindOf(p *query.Params) (kind sample.Kind, status int, task string) {
	kind = sample.Kind{Type: p.Text("type"), Sensitive: p.Boolean("sensitive")}
	if kind.Type == "" {
		kind.Type = sample.Types[0]
	}
	value := p.Text("status")
	if value == "" {
		value = "completed"
	}
	status, err := sample.ParseStatus(value)
	if err != nil {
		p.Fail("status", "it is %.64q: %w", value, err)
	}
	return kind, status, p.Text("task")
}

// makeSample returns a new callback; of a new task, unless one is given.
func makeSample(kind sample.Kind, status int, task string) ([]byte, error) {
	id, business, err := sample.NewTask(rand.Reader)
	if err != nil {
		return nil, err
	}
	if task == "" {
		task = id
	}
	object, err := kind.Make(rand.Reader, time.Now(), task, business, status)
	if err != nil {
		return nil, err
	}
	return object.JSON()
}

func (v *visit) tryPage() error {
	values := v.r.URL.Query()
	for name, given := range values { // a form sends what is empty
		if len(given) == 1 && given[0] == "" {
			delete(values, name)
		}
	}
	p := query.Of(values, "handler", "type", "status", "sensitive", "task")
	name := p.Text("handler")
	kind, status, task := kindOf(p)
	if err := p.Err(); err != nil {
		return badRequest(err)
	}
	if err := v.open(name); err != nil {
		return err
	}
	body, err := makeSample(kind, status, task)
	if err != nil {
		return &failure{http.StatusInternalServerError, err}
	}
	page := tryView{
		Handler: v.name, Link: v.one(), Types: sample.Types, Statuses: sample.Statuses,
		Type: kind.Type, Status: p.Values.Get("status"), Task: task, Sensitive: kind.Sensitive,
		Body: string(indented(body)),
	}
	if page.Status == "" {
		page.Status = "completed"
	}
	if client := v.client(); client.IsValid() {
		page.Client, page.Explanation = client.String(), v.gateway.Explain(client, "")
	}
	if v.notice != nil && v.notice.tried != nil {
		page.Tried = v.notice.tried
		if page.Tried.Body != "" {
			page.Body = page.Tried.Body
		}
		if page.Tried.ID != "" {
			event, err := control.ShowEvent(v.r.Context(), v.gateway.Inbox(), page.Tried.ID)
			switch {
			case err == nil:
				page.Event = &event
			case !errors.Is(err, inbox.ErrNotFound): // it may be purged by now
				return err
			}
		}
	}
	return v.show("try", "Try it", page)
}

// try sends a callback: the handler takes it as from the page's user.
func (v *visit) try(p *query.Params) (*outcome, error) {
	kind, status, task := kindOf(p)
	byHand := p.Boolean("by_hand")
	if err := p.Err(); err != nil {
		return nil, badRequest(err)
	}
	body := []byte(strings.ReplaceAll(p.Values.Get("body"), "\r\n", "\n")) // a form sends line feeds so
	if !byHand {
		var err error
		if body, err = makeSample(kind, status, task); err != nil {
			return nil, &failure{http.StatusInternalServerError, err}
		}
	}
	ctx, cancel := v.within()
	defer cancel()
	client := v.client()
	t := triedOf(v.gateway.Try(ctx, client, body))
	if client.IsValid() {
		t.Client = client.String()
	}
	if byHand && len(body) <= mostKept {
		t.Body = string(body)
	}
	o := &outcome{
		to: href(leafTry, "handler", v.one()), what: "callback tried by hand",
		notice: notice{Class: isBad, Text: fmt.Sprintf("Not accepted: HTTP %d %s.", t.Status, t.StatusText), tried: t},
		fields: []zap.Field{zap.Int("status", t.Status), zap.Int("size", len(body)), zap.String("event_id", t.ID)},
	}
	if t.ID != "" {
		o.Class, o.Text = isWell, "Accepted, and stored as a new event."
		if t.Duplicate {
			o.Text = "Accepted: a repeat of an event that is there already."
		}
	}
	return o, nil
}

// triedOf reads an answer.
func triedOf(a control.Tried) *tried {
	t := &tried{Status: a.Status, StatusText: http.StatusText(a.Status)}
	t.Answer = string(indented(a.Body))
	if len(t.Answer) > mostKept {
		t.Answer = strings.ToValidUTF8(t.Answer[:mostKept], "") + "…"
	}
	var said struct {
		ID            string
		Duplicate     bool
		Title, Detail string
		Errors        []control.Problem
	}
	if json.Unmarshal(a.Body, &said) != nil {
		return t
	}
	if a.Status == http.StatusOK {
		t.ID, t.Duplicate = said.ID, said.Duplicate
	}
	t.Title, t.Detail, t.Problems = said.Title, said.Detail, said.Errors
	if more := len(t.Problems) - maxProblems; more > 0 {
		t.More, t.Problems = more, t.Problems[:maxProblems]
	}
	return t
}

package dashboard

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/query"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// holdView is the form of a hold.
type holdView struct {
	Handler, Destination string // the handler's name; "" is all destinations
	Destinations         []string
	User                 string
	Most                 int // bytes of a reason
}

// holdPage asks why deliveries are to be held, and for how long.
func (v *visit) holdPage() error {
	p := query.New(v.r.URL.RawQuery, "handler", "destination")
	name, destination := p.Text("handler"), p.Destination("destination")
	if err := p.Err(); err != nil {
		return badRequest(err)
	}
	if err := v.open(name); err != nil {
		return err
	}
	if err := control.Configured(v.gateway, destination); err != nil {
		return &failure{http.StatusNotFound, err}
	}
	page := holdView{Handler: v.name, Destination: destination, Destinations: v.gateway.Destinations(), User: v.user()}
	page.Most = control.MaxHoldReason - len(by(page.User, "x")) + 1
	return v.write(http.StatusOK, "hold", v.frame("Hold deliveries", page))
}

// by returns the reason of a hold, with the user who gave it.
func by(user, reason string) string {
	switch {
	case user == "":
		return reason
	case reason == "":
		return user
	default:
		return user + ": " + reason
	}
}

// hold stops deliveries to a destination, or to all.
func (v *visit) hold(p *query.Params) (*outcome, error) {
	destination := p.Destination("destination")
	reason := by(v.user(), strings.ToValidUTF8(p.Text("reason"), "�"))
	if len(reason) > control.MaxHoldReason {
		p.Fail("reason", "with the user's name it has %d bytes: expected at most %d", len(reason), control.MaxHoldReason)
	}
	var until time.Time
	if p.Has("for") {
		length, err := caddy.ParseDuration(p.Text("for"))
		if err == nil && length > 0 {
			until, err = control.HoldUntil(time.Now(), until, length)
		}
		if err != nil || until.IsZero() {
			p.Fail("for", "it is %.64q: expected a duration of at most a year, such as 30m, 4h or 2d, or nothing to hold until somebody resumes", p.Values.Get("for"))
		}
	}
	if err := p.Err(); err != nil {
		return nil, badRequest(err)
	}
	end := "until somebody resumes it"
	if !until.IsZero() {
		end = "for " + p.Text("for")
	}
	o := v.ofDestination("deliveries held by hand", destination, fmt.Sprintf("Held: nothing is delivered to %s %s.", whom(destination), end))
	o.fields = append(o.fields, zap.String("reason", reason))
	if !until.IsZero() {
		o.fields = append(o.fields, zap.Time("until", until))
	}
	err := control.Configured(v.gateway, destination)
	if err == nil {
		ctx, cancel := v.within()
		defer cancel()
		err = v.gateway.Hold(ctx, destination, reason, until)
	}
	return o, err
}

// resume ends a hold, and has a destination in trouble tried at once.
func (v *visit) resume(p *query.Params) (*outcome, error) {
	destination := p.Destination("destination")
	if err := p.Err(); err != nil {
		return nil, badRequest(err)
	}
	o := v.ofDestination("deliveries resumed by hand", destination, fmt.Sprintf("Resumed: deliveries to %s go on.", whom(destination)))
	err := control.Configured(v.gateway, destination)
	if err == nil {
		ctx, cancel := v.within()
		defer cancel()
		err = v.gateway.Resume(ctx, destination)
	}
	return o, err
}

// ofDestination returns the outcome of a change of the deliveries to a destination.
func (v *visit) ofDestination(what, destination, text string) *outcome {
	o := &outcome{
		to: href(leafOverview), what: what,
		notice: notice{Class: isWell, Text: text},
		fields: []zap.Field{zap.String("destination", destination)},
	}
	if len(v.names) > 1 {
		o.Text += fmt.Sprintf(" (Handler %s.)", v.name)
	}
	return o
}

// whom names a destination, or all.
func whom(destination string) string {
	if destination == "" {
		return "all destinations"
	}
	return destination
}

// holdAct is what may be done about the deliveries to a destination, or to all of a handler.
type holdAct struct {
	Handler, Destination string
	Link                 string // the handler as links need it

	Hold   bool // it may be held
	Resume bool // it is held by hand
	Try    bool // the service is in trouble: it may be tried at once
}

// addActs adds what may be done about deliveries.
func (v *handlerView) addActs() {
	all := &holdAct{Handler: v.Name, Link: v.Link}
	held, configured := 0, 0
	for i := range v.Destinations {
		d := &v.Destinations[i]
		if !d.Configured || d.Name == inbox.ConfirmDestination { // nothing is delivered there
			continue
		}
		configured++
		d.Act = &holdAct{Handler: v.Name, Link: v.Link, Destination: d.Name}
		for _, h := range d.Holds {
			d.Act.Resume = d.Act.Resume || h.By == control.ByOperator
			d.Act.Try = d.Act.Try || h.By == control.ByUpstream
		}
		d.Act.Hold = !d.Act.Resume
		d.Act.Try = d.Act.Try && !d.Act.Resume
		if d.Act.Resume {
			held++
		}
	}
	if configured > 1 {
		v.Act = all
		all.Hold, all.Resume = held < configured, held > 0
	}
}

package dashboard

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/query"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// problemsPage is what needs somebody: dead events, and callbacks in quarantine.
type problemsPage struct {
	Handler string // as links need it

	// Dead counts the dead deliveries, and Looked those of them, the newest, that Groups
	// are made of. More counts the groups beyond.
	Dead, Looked int64
	Groups       []deadGroup
	More         int

	Quarantined *int64
	Limit       int // of the quarantine
	Refused     control.QuarantineGroups
	MoreRefused int  // groups beyond those
	Unconfirmed bool // some of those are valid, but Fotor did not confirm them
	Callbacks   []control.Quarantined
	First, Next string

	Act string // the handler's name in forms; "" without actions
}

// deadGroup are dead deliveries to one destination whose last attempts failed alike.
type deadGroup struct {
	Key         deadKey
	Destination string
	Last        control.Attempt // of the newest
	Count       int64
	Newest      string    // the id of one of them
	From, To    time.Time // when they were given up
}

const (
	// lookedAt is how many dead deliveries to each destination are looked at: the newest.
	// Together with the time that a list may take it bounds what the page costs.
	lookedAt = 500

	maxGroups = 25
)

func (v *visit) problems() error {
	p := query.New(v.r.URL.RawQuery, "handler", "cursor", "limit")
	name, page := p.Text("handler"), p.Page()
	page.Limit = p.Number("limit", 1, mostRow, rows)
	if err := p.Err(); err != nil {
		return badRequest(err)
	}
	if err := v.open(name); err != nil {
		return err
	}
	ctx := v.r.Context()
	summary := v.gateway.Summary(ctx, control.RecentDefault)
	shown := problemsPage{Handler: v.one(), Act: v.acting(), Quarantined: summary.Quarantined, Limit: summary.Config.Quarantine}
	if err := v.group(ctx, &shown, summary.Destinations); err != nil {
		return err
	}
	list, err := control.ListQuarantine(ctx, v.gateway.Inbox(), page)
	if err != nil {
		return err
	}
	shown.Callbacks = list.Callbacks
	if err := v.groupQuarantine(ctx, &shown); err != nil {
		return err
	}
	if page.Cursor != "" {
		shown.First = href(leafProblems, "handler", v.one()) + "#quarantine"
	}
	if list.Next != "" {
		shown.Next = href(leafProblems, "handler", v.one(), "cursor", list.Next) + "#quarantine"
	}
	return v.show("problems", "Problems", shown)
}

// group groups the newest dead deliveries by what was answered, the largest groups first.
func (v *visit) group(ctx context.Context, shown *problemsPage, destinations []control.Destination) error {
	groups := make(map[deadKey]*deadGroup)
	for i := range destinations {
		d := &destinations[i]
		if d.Deliveries != nil && d.Deliveries.Dead == 0 {
			continue
		}
		filter := inbox.Filter{Destination: d.Name, States: []inbox.State{inbox.Dead}}
		list, err := control.ListEvents(ctx, v.gateway.Inbox(), filter, inbox.Page{Limit: lookedAt})
		if err != nil {
			return err
		}
		looked := int64(len(list.Events))
		shown.Looked += looked
		if d.Deliveries != nil {
			looked = max(looked, d.Deliveries.Dead)
		}
		shown.Dead += looked
		for j := range list.Events {
			add(groups, d.Name, &list.Events[j])
		}
	}
	for _, g := range groups {
		shown.Groups = append(shown.Groups, *g)
	}
	slices.SortFunc(shown.Groups, func(a, b deadGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), b.To.Compare(a.To), cmp.Compare(a.Newest, b.Newest))
	})
	if more := len(shown.Groups) - maxGroups; more > 0 {
		shown.More, shown.Groups = more, shown.Groups[:maxGroups]
	}
	return nil
}

func add(groups map[deadKey]*deadGroup, destination string, e *control.Event) {
	last := control.Attempt{}
	if e.LastAttempt != nil {
		last = *e.LastAttempt
	}
	last.Reason = cut(last.Reason, cutLine)
	at := e.ReceivedAt
	if e.SettledAt != nil {
		at = *e.SettledAt
	}
	key := deadKeyOf(destination, e)
	g := groups[key]
	if g == nil {
		g = &deadGroup{Key: key, Destination: destination, Last: last, Newest: e.ID, From: at, To: at}
		groups[key] = g
	}
	g.Count++
	if at.Before(g.From) {
		g.From = at
	}
	if at.After(g.To) {
		g.To, g.Last, g.Newest = at, last, e.ID
	}
}

// groupQuarantine groups the callbacks in quarantine that arrived last by what is wrong
// with them.
func (v *visit) groupQuarantine(ctx context.Context, shown *problemsPage) (err error) {
	shown.Refused, err = control.GroupQuarantine(ctx, v.gateway.Inbox(), lookedAt)
	shown.Unconfirmed = slices.ContainsFunc(shown.Refused.Groups, func(g control.QuarantineGroup) bool { return g.Status == http.StatusOK })
	if more := len(shown.Refused.Groups) - maxGroups; more > 0 {
		shown.MoreRefused, shown.Refused.Groups = more, shown.Refused.Groups[:maxGroups]
	}
	return err
}

// quarantinedPage is one callback in quarantine.
type quarantinedPage struct {
	control.QuarantinedDetail
	Handler  string
	Problems []markedProblem
	More     int     // problems beyond those
	Pieces   []piece // of the body
	Left     int64   // bytes of the body after the last piece
	Cut      bool    // not all of the body is shown
	Act      string  // the handler's name in forms; "" without actions
}

// maxProblems bounds how many problems of a callback are shown.
const maxProblems = 100

func (v *visit) quarantined() error {
	p := query.New(v.r.URL.RawQuery, "handler", "id")
	name, id := p.Text("handler"), suspectID(p)
	if err := p.Err(); err != nil {
		return badRequest(err)
	}
	if err := v.open(name); err != nil {
		return err
	}
	detail, err := control.ShowQuarantined(v.r.Context(), v.gateway.Inbox(), id)
	if err != nil {
		return err
	}
	page := quarantinedPage{QuarantinedDetail: detail, Handler: v.one(), Act: v.acting()}
	problems := detail.Problems[:min(len(detail.Problems), maxProblems)]
	page.More = len(detail.Problems) - len(problems)
	body := []byte(detail.Body)
	if detail.BodyEncoding == control.BodyBase64 {
		body, _ = base64.StdEncoding.DecodeString(detail.Body)
	}
	page.Pieces, page.Left = markUp(body, placesOf(body, problems), maxBody) // as it arrived: not formatted
	page.Problems = markedProblems(problems, page.Pieces)
	page.Cut = page.Left > 0 || slices.ContainsFunc(page.Pieces, func(p piece) bool { return p.Skipped > 0 })
	return v.show("quarantined", "Callback in quarantine", page)
}

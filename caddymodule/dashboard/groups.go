package dashboard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/query"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/logfield"
)

// varying is what differs in reasons that mean the same: numbers, ids, addresses.
var varying = regexp.MustCompile(`[0-9a-fA-F]*[0-9][0-9a-fA-F]*`)

// pattern is what reasons that mean the same have in common.
func pattern(reason string) string { return varying.ReplaceAllString(cut(reason, cutLine), "#") }

// groupKey is what the members of a group have in common.
type groupKey struct {
	destination string // of dead deliveries
	status      int    // answered: by the service, or to the caller
	reason      string // a pattern
}

// deadKey returns the group of a dead delivery.
func deadKey(destination string, e *control.Event) groupKey {
	key := groupKey{destination: destination}
	if e.LastAttempt != nil {
		key.status, key.reason = e.LastAttempt.Status, pattern(e.LastAttempt.Reason)
	}
	return key
}

// quarantineKey returns the group of a callback in quarantine.
func quarantineKey(q *control.Quarantined) groupKey {
	key := groupKey{status: q.Status}
	for _, p := range q.Problems {
		key.reason += pattern(p.Pointer) + " " + pattern(p.Detail) + "\n"
	}
	key.reason = cut(strings.TrimSpace(key.reason), cutLine)
	return key
}

// quarantineGroup are callbacks in quarantine that are wrong alike.
type quarantineGroup struct {
	Key      groupKey
	Status   int
	Problems []control.Problem // of the newest
	Count    int64
	Newest   int64     // its number
	From, To time.Time // when they arrived last
}

// groupTime is how long callbacks in quarantine are read to group them.
const groupTime = 50 * time.Millisecond

// groupQuarantine groups the callbacks that arrived last, the largest groups first. all
// says whether it has looked at all of them.
func (v *visit) groupQuarantine(ctx context.Context) (groups []quarantineGroup, looked int, all bool, err error) {
	byKey := make(map[groupKey]*quarantineGroup)
	page := inbox.Page{Limit: rows}
	for began := time.Now(); looked < lookedAt && time.Since(began) < groupTime; {
		list, err := control.ListQuarantine(ctx, v.gateway.Inbox(), page)
		if err != nil {
			return nil, 0, false, err
		}
		looked += len(list.Callbacks)
		for i := range list.Callbacks {
			q := &list.Callbacks[i]
			key := quarantineKey(q)
			g := byKey[key]
			if g == nil {
				g = &quarantineGroup{Key: key, Status: q.Status, Problems: q.Problems, Newest: q.ID, To: q.LastAt}
				byKey[key] = g
			}
			g.Count++
			g.From = q.LastAt // they come newest first
		}
		if page.Cursor = list.Next; list.Next == "" {
			all = true
			break
		}
	}
	for _, g := range byKey {
		groups = append(groups, *g)
	}
	slices.SortFunc(groups, func(a, b quarantineGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(b.Newest, a.Newest))
	})
	return groups[:min(len(groups), maxGroups)], looked, all, nil
}

// Form returns the fields with which a group is released.
func (g *quarantineGroup) Form(handler string) []field { return g.Key.fields(handler) }

// Form returns the fields with which a group is replayed.
func (g *deadGroup) Form(handler string) []field { return g.Key.fields(handler) }

func (k groupKey) fields(handler string) []field {
	all := []field{{"handler", handler}, {"status", fmt.Sprint(k.status)}, {"reason", k.reason}}
	if k.destination != "" {
		all = append(all, field{"destination", k.destination})
	}
	return all
}

// groupForm reads a group, where to go on and how many were done before.
func groupForm(p *query.Params) (key groupKey, cursor string, before int64, err error) {
	key.status = p.Number("status", 0, 999, 0)
	key.reason = strings.ReplaceAll(p.Text("reason"), "\r\n", "\n") // as a form sends line feeds
	if p.Has("destination") {
		key.destination = p.Destination("destination")
	}
	cursor, before = p.Text("cursor"), int64(p.Number("before", 0, 1<<31-1, 0))
	if !p.Has("status") {
		p.Fail("status", "it is missing: expected the status of the group")
	}
	if err := p.Err(); err != nil {
		return key, "", 0, badRequest(err)
	}
	return key, cursor, before, nil
}

// groupWorks is how long a group is changed at a time; a variable for tests. Then no more
// are begun, and groupWait later what has been begun is given up.
var groupWorks = 8 * time.Second

const groupWait = 30 * time.Second

// working bounds how many groups are changed at once: each keeps the inbox busy.
var working = make(chan struct{}, 2)

var (
	errBusy     = errors.New("other groups are being changed just now")
	errReloaded = errors.New("Caddy loads another config, or stops") //nolint:staticcheck // a name
)

// groupWithin begins to change a group. What it returns must be called at the end. The change
// ends if the client has gone, and if Caddy takes this config out of service, which would
// wait for it.
func (v *visit) groupWithin() (context.Context, func(), error) {
	select {
	case working <- struct{}{}:
	default:
		return nil, nil, errBusy
	}
	ctx, giveUp := context.WithTimeout(v.r.Context(), groupWorks+groupWait)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := func() bool { return true }
	if v.handler.stopped != nil {
		stop = context.AfterFunc(v.handler.stopped, func() { cancel(errReloaded) })
	}
	return ctx, func() {
		stop()
		cancel(nil)
		giveUp()
		<-working
	}, nil
}

// replayGroup replays all dead deliveries whose last attempts failed alike.
func (v *visit) replayGroup(p *query.Params) (*outcome, error) {
	key, cursor, before, err := groupForm(p)
	if err == nil && key.destination == "" {
		p.Fail("destination", "it is missing: expected the name of a destination")
		err = badRequest(p.Err())
	}
	if err != nil {
		return nil, err
	}
	o := v.ofGroup("events replayed by hand", key)
	ctx, end, err := v.groupWithin()
	if err != nil {
		return o, err
	}
	defer end()
	change := &control.Change{
		Gateway: v.gateway, Cursor: cursor, Deadline: time.Now().Add(groupWorks),
		Filter: inbox.Filter{Destination: key.destination, States: []inbox.State{inbox.Dead}},
		Only:   func(e *control.Event) bool { return deadKey(key.destination, e) == key },
		Do: func(ctx context.Context, id string) error {
			return control.Again(ctx, v.gateway, id, key.destination, "")
		},
	}
	next, err := change.Run(ctx)
	done := change.Result()
	o.fields = append(o.fields, zap.Int64("matched", done.Matched), zap.Int64("changed", done.Changed), zap.Int64("skipped", done.Skipped))
	o.Text = fmt.Sprintf("Replayed %s to %s.", deliveries(done.Changed), key.destination)
	if done.Skipped > 0 {
		o.Text += fmt.Sprintf(" %s changed meanwhile.", has(done.Skipped))
	}
	if done.Matched == 0 {
		o.Class, o.Text = isWarn, fmt.Sprintf("Nothing replayed: no dead delivery to %s failed like that any more.", key.destination)
	}
	return v.soFar(ctx, o, leafReplayGroup, key, next, before+done.Changed, err)
}

// releaseGroup releases all callbacks in quarantine that are wrong alike.
func (v *visit) releaseGroup(p *query.Params) (*outcome, error) {
	key, cursor, before, err := groupForm(p)
	if err != nil {
		return nil, err
	}
	o := v.ofGroup("callbacks released from quarantine by hand", key)
	ctx, end, err := v.groupWithin()
	if err != nil {
		return o, err
	}
	defer end()
	releases := &control.Releases{
		Gateway: v.gateway, Cursor: cursor, Deadline: time.Now().Add(groupWorks),
		Only: func(q *control.Quarantined) bool { return quarantineKey(q) == key },
	}
	next, err := releases.Run(ctx)
	o.fields = append(o.fields, zap.Int64("changed", releases.Released), zap.Int64("duplicates", releases.Duplicates),
		zap.Int64("invalid", releases.Invalid), zap.Int64("skipped", releases.Gone))
	o.Text = fmt.Sprintf("Released %s.", plural(releases.Released, "callback"))
	if releases.Duplicates > 0 {
		o.Text += fmt.Sprintf(" %s events already.", are(releases.Duplicates))
	}
	if releases.Gone > 0 {
		o.Text += fmt.Sprintf(" %s gone meanwhile.", are(releases.Gone))
	}
	switch {
	case releases.Invalid > 0:
		o.Class = isWarn
		o.Text += fmt.Sprintf(" %s still not valid by today's rules, and stay.", are(releases.Invalid))
		if releases.Invalid == 1 {
			o.Text = strings.Replace(o.Text, "and stay.", "and stays.", 1)
		}
	case releases.Released == 0 && releases.Gone == 0:
		o.Class, o.Text = isWarn, "Nothing released: no callback in quarantine is wrong like that any more."
	}
	return v.soFar(ctx, o, leafReleaseGroup, key, next, before+releases.Released, err)
}

// ofGroup returns the outcome of a change of a group.
func (v *visit) ofGroup(what string, key groupKey) *outcome {
	o := &outcome{
		to: href(leafProblems, "handler", v.one()), what: what, notice: notice{Class: isWell},
		fields: []zap.Field{zap.Int("status", key.status), zap.String("group", logfield.Cut(key.reason))},
	}
	if key.destination != "" {
		o.fields = append(o.fields, zap.String("destination", key.destination))
	}
	return o
}

// soFar adds to an outcome how to go on, if not all is done.
func (v *visit) soFar(ctx context.Context, o *outcome, leaf string, key groupKey, next string, done int64, err error) (*outcome, error) {
	if err == nil && next == "" {
		return o, nil
	}
	switch {
	case err == nil:
		o.Class = isWarn
		o.Text = strings.Replace(o.Text, "Nothing", "So far nothing", 1) + fmt.Sprintf(" That is not all yet: %s so far.", humanize.Comma(done))
	case errors.Is(err, inbox.ErrCursor):
		return nil, badRequest(fmt.Errorf("parameter \"cursor\": %w", err))
	case context.Cause(ctx) == errReloaded: //nolint:errorlint // it is set as it is
		err = nil
		o.Class, o.Text = isWarn, fmt.Sprintf("Interrupted, because Caddy loads another config or stops: %s so far.", humanize.Comma(done))
	default:
		o.more = fmt.Sprintf(" %s were done before that.", humanize.Comma(done))
	}
	o.Again = goOn(v.name, leaf, key, next, done)
	return o, err
}

// goOn is the button that goes on with a group.
func goOn(handler, leaf string, key groupKey, next string, done int64) *again {
	fields := append(key.fields(handler), field{"before", fmt.Sprint(done)})
	if next != "" {
		fields = append(fields, field{"cursor", next})
	}
	return &again{Action: leaf, Label: "Go on", Fields: fields}
}

func deliveries(n int64) string {
	if n == 1 {
		return "1 delivery"
	}
	return humanize.Comma(n) + " deliveries"
}

func are(n int64) string {
	if n == 1 {
		return "1 is"
	}
	return humanize.Comma(n) + " are"
}

func has(n int64) string {
	if n == 1 {
		return "1 has"
	}
	return humanize.Comma(n) + " have"
}

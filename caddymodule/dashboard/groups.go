package dashboard

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
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

// deadKey is what the dead deliveries of a group have in common.
type deadKey struct {
	destination string
	status      int    // of the last attempts
	reason      string // the pattern of their reasons
}

// deadKeyOf returns the group of a dead delivery.
func deadKeyOf(destination string, e *control.Event) deadKey {
	key := deadKey{destination: destination}
	if e.LastAttempt != nil {
		key.status, key.reason = e.LastAttempt.Status, pattern(e.LastAttempt.Reason)
	}
	return key
}

// fields are those of a form that names the group.
func (k deadKey) fields() []field {
	return []field{{"destination", k.destination}, {"status", fmt.Sprint(k.status)}, {"reason", k.reason}}
}

// Form returns the fields with which a group is replayed.
func (g *deadGroup) Form(handler string) []field {
	return append([]field{{"handler", handler}}, g.Key.fields()...)
}

// progress reads from a form where to go on, and how many were done before.
func progress(p *query.Params) (cursor string, before int64) {
	return p.Text("cursor"), int64(p.Number("before", 0, math.MaxInt32, 0))
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

// groupWithin begins to change a group. What it returns must be called at the end. The
// change ends if the client has gone, and if Caddy takes this config out of service, which
// would wait for it.
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
	key := deadKey{
		destination: p.Destination("destination"), status: p.Number("status", 0, 999, -1),
		reason: strings.ReplaceAll(p.Text("reason"), "\r\n", "\n"), // as a form sends line feeds
	}
	cursor, before := progress(p)
	switch {
	case key.destination == "":
		p.Fail("destination", "it is missing: expected the name of a destination")
	case key.status < 0:
		p.Fail("status", "it is missing: expected the status of the group")
	}
	if err := p.Err(); err != nil {
		return nil, badRequest(err)
	}
	o := v.ofGroup("events replayed by hand", zap.String("destination", key.destination), zap.Int("status", key.status), zap.String("group", logfield.Cut(key.reason)))
	ctx, end, err := v.groupWithin()
	if err != nil {
		return o, err
	}
	defer end()
	change := &control.Change{
		Gateway: v.gateway, Cursor: cursor, Deadline: time.Now().Add(groupWorks),
		Filter: inbox.Filter{Destination: key.destination, States: []inbox.State{inbox.Dead}},
		Only:   func(e *control.Event) bool { return deadKeyOf(key.destination, e) == key },
		Do: func(ctx context.Context, id string) error {
			return control.Again(ctx, v.gateway, id, key.destination, "")
		},
	}
	next, err := change.Run(ctx)
	done := change.Result()
	o.some = done.Changed > 0
	o.fields = append(o.fields, zap.Int64("matched", done.Matched), zap.Int64("changed", done.Changed), zap.Int64("skipped", done.Skipped))
	o.Text = fmt.Sprintf("Replayed %s to %s.", deliveries(done.Changed), key.destination)
	if done.Skipped > 0 {
		o.Text += fmt.Sprintf(" %s changed meanwhile.", has(done.Skipped))
	}
	if done.Matched == 0 {
		o.Class, o.Text = isWarn, fmt.Sprintf("Nothing replayed: no dead delivery to %s failed like that any more.", key.destination)
	}
	return v.soFar(ctx, o, next, before+done.Changed, err, key.fields()...)
}

// releaseGroup releases all callbacks in quarantine that were refused alike. Those that Fotor
// did not confirm may be forged: they are only released one by one.
func (v *visit) releaseGroup(p *query.Params) (*outcome, error) {
	key := p.Text("group")
	cursor, before := progress(p)
	if key == "" {
		p.Fail("group", "it is missing: expected the key of a group")
	}
	if err := p.Err(); err != nil {
		return nil, badRequest(err)
	}
	o := v.ofGroup("callbacks released from quarantine by hand", zap.String("group", logfield.Cut(key)))
	ctx, end, err := v.groupWithin()
	if err != nil {
		return o, err
	}
	defer end()
	unconfirmed := false
	releases := &control.Releases{
		Gateway: v.gateway, Cursor: cursor, Deadline: time.Now().Add(groupWorks),
		Only: func(q *control.Quarantined) bool {
			if q.GroupKey() != key {
				return false
			}
			unconfirmed = q.Unconfirmed() // all of a group have the same status
			return !unconfirmed
		},
	}
	next, err := releases.Run(ctx)
	o.some = releases.Released > 0
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
	case unconfirmed:
		o.Class, o.Text = isWarn, "Nothing released: Fotor did not confirm these callbacks, so they are released one by one."
	case releases.Invalid > 0:
		o.Class = isWarn
		o.Text += fmt.Sprintf(" Still not valid by today's rules, and kept: %s.", humanize.Comma(releases.Invalid))
	case releases.Released == 0 && releases.Gone == 0:
		o.Class, o.Text = isWarn, "Nothing released: no callback in quarantine is wrong like that any more."
	}
	return v.soFar(ctx, o, next, before+releases.Released, err, field{"group", key})
}

// ofGroup returns the outcome of a change of a group.
func (v *visit) ofGroup(what string, fields ...zap.Field) *outcome {
	return &outcome{to: href(leafProblems, "handler", v.one()), what: what, notice: notice{Class: isWell}, fields: fields}
}

// soFar adds to an outcome how to go on, if not all is done. The fields name the group.
func (v *visit) soFar(ctx context.Context, o *outcome, next string, done int64, err error, group ...field) (*outcome, error) {
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
	fields := append([]field{{"handler", v.name}, {"before", fmt.Sprint(done)}}, group...)
	if next != "" {
		fields = append(fields, field{"cursor", next})
	}
	o.Again = &again{Action: v.leaf, Label: "Go on", Fields: fields}
	return o, err
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

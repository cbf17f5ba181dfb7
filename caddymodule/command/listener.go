package command

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

const (
	// maxWaiting is how many events may wait to be printed and copied: as many as the
	// gateway remembers itself. Those beyond are left out.
	maxWaiting = control.FeedLength

	// tellLeftOut is how often it is said that events were left out.
	tellLeftOut = 10 * time.Second

	// pastPage is how many events of the past are asked for at once.
	pastPage = 500
)

// listener prints what arrives and sends copies of it. The stream is read while that
// happens, so that a slow URL never makes the gateway wait.
type listener struct {
	*session
	handler   string
	plan      *listenPlan
	following chan struct{} // closed once what arrives is followed
	waiting   chan control.Notice
	leftOut   atomic.Int64 // since that was last said

	// The rest is the worker's.
	left    int // events left to print; negative: no end
	past    recentIDs
	told    time.Time // when it was last said that events were left out
	skipped int64     // left out in all
	copier  *copier   // nil if nothing is copied
}

func newListener(s *session, handler string, plan *listenPlan) *listener {
	l := &listener{
		session: s, handler: handler, plan: plan, left: -1,
		following: make(chan struct{}), waiting: make(chan control.Notice, maxWaiting),
	}
	if plan.lines > 0 {
		l.left = plan.lines
	}
	if plan.to != nil {
		l.copier = newCopier(s, handler, plan)
	}
	return l
}

// arrived takes a notice of the stream. It never waits.
func (l *listener) arrived(n *control.Notice, _ json.RawMessage) error {
	if n.Kind == control.Accepted && !l.wanted(n.Status) {
		return nil
	}
	select {
	case l.waiting <- *n:
	default:
		l.leftOut.Add(1)
	}
	return nil
}

func (l *listener) wanted(status string) bool {
	return len(l.plan.statuses) == 0 || slices.Contains(l.plan.statuses, status)
}

// work handles what has arrived, one event after the other, until the context ends or all
// lines are printed.
func (l *listener) work(ctx context.Context) error {
	if l.plan.since != "" {
		if err := l.replayPast(ctx); err != nil || l.left == 0 {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-l.waiting:
			if err := l.one(ctx, &n); err != nil || l.left == 0 {
				return err
			}
			if err := l.tellLeftOut(len(l.waiting) == 0); err != nil {
				return err
			}
		}
	}
}

func (l *listener) one(ctx context.Context, n *control.Notice) error {
	switch {
	case n.Kind != control.Accepted:
		return l.printNotice(n, n.AppendJSON(nil))
	case l.past.has(n.ID):
		return nil
	}
	return l.event(ctx, n)
}

// replayPast handles the events of the past. What arrives is followed already, so that
// none is missed in between; an event that is in both counts once.
func (l *listener) replayPast(ctx context.Context) error {
	select {
	case <-l.following:
	case <-ctx.Done():
		return nil
	}
	query := url.Values{"since": {l.plan.since}, "order": {"asc"}, "limit": {strconv.Itoa(pastPage)}}
	maps.Copy(query, l.plan.filter)
	if l.plan.destination != "" {
		query.Set(flagDestination, l.plan.destination)
	}
	for ctx.Err() == nil {
		page, err := persistently[control.Events](ctx, l.session, call{path: []string{l.handler, "events"}, query: query})
		if err != nil {
			return unlessEnded(ctx, err)
		}
		for i := range page.Events {
			e := &page.Events[i]
			l.past.add(e.ID)
			if !l.wanted(e.Status) {
				continue
			}
			n := control.Notice{Kind: control.Accepted, Handler: l.handler, At: e.ReceivedAt, ID: e.ID, TaskID: e.TaskID, Type: e.Type, Status: e.Status}
			if err := l.event(ctx, &n); err != nil || l.left == 0 {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		query.Set("cursor", page.Next)
	}
	return nil
}

// unlessEnded returns the error, unless it is the end of the context.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // what ends then has not failed
	}
	return err
}

// event copies an event and prints it.
func (l *listener) event(ctx context.Context, n *control.Notice) error {
	var c *copied
	if l.copier != nil {
		var fits bool
		if c, fits = l.copier.copy(ctx, n.ID); !fits {
			return nil
		}
	}
	if l.left > 0 {
		l.left--
	}
	if l.json {
		line, err := json.Marshal(struct {
			*control.Notice
			Copy *copied `json:"copy,omitempty"`
		}{n, c})
		if err != nil {
			return err
		}
		return l.printLine(line)
	}
	l.print(l.eventLine(n, c))
	return l.stdout.err
}

// tellLeftOut says how many events were left out because the URL was too slow: not at
// each, but at the end of it.
func (l *listener) tellLeftOut(over bool) error {
	if now := l.now(); over || now.Sub(l.told) >= tellLeftOut {
		if missed := l.leftOut.Swap(0); missed > 0 {
			l.told = now
			l.skipped += missed
			return l.printLeftOut(missed)
		}
	}
	return nil
}

func (l *listener) printLeftOut(missed int64) error {
	n := &control.Notice{Kind: control.Gap, Handler: l.handler, At: l.now().UTC(), Missed: missed, Reason: "they arrived faster than they could be copied"}
	if l.json {
		return l.printLine(n.AppendJSON(nil))
	}
	l.printf("%s  %s  %s left out: %s\n", n.At.In(l.zone).Format("15:04:05.000"), l.kind(n.Kind), plural(missed, "event"), n.Reason)
	return l.stdout.err
}

// end says what became of all copies.
func (l *listener) end() {
	if l.copier == nil || l.stdout.err != nil {
		return
	}
	parts := l.copier.counts()
	if l.skipped += l.leftOut.Load(); l.skipped > 0 {
		parts = append(parts, count(l.skipped)+" left out")
	}
	if len(parts) == 0 {
		parts = []string{"none"}
	}
	l.note("Copies: %s.", strings.Join(parts, ", "))
}

// shownID formats the id of an event: on a terminal the first digits of its task's key and
// of the rest, by which it is told apart from others.
func (env *environment) shownID(id string) string {
	if env.stdoutTerminal && eventIDRegexp.MatchString(id) {
		return id[:8] + "-" + id[16:20]
	}
	return quoted(id)
}

// eventLine formats an event for people. On a terminal of 80 columns it does not wrap.
func (l *listener) eventLine(n *control.Notice, c *copied) string {
	kind, at := cut(n.Type, 32), n.At.In(l.zone).Format("15:04:05.000")
	if l.stdoutTerminal {
		kind = cut(n.Type, 14)
	}
	if l.now().Sub(n.At) > 12*time.Hour { // with --since
		at = n.At.In(l.zone).Format("01-02 15:04 ")
	}
	parts := []string{at, l.shownID(n.ID), fmt.Sprintf("%-11s", quoted(n.Status)), fmt.Sprintf("%-14s", kind)}
	if !l.stdoutTerminal {
		parts = append(parts, "task "+cut(n.TaskID, 48))
	}
	if c != nil {
		parts = append(parts, "→ "+c.text(l.printer))
	} else if l.stdoutTerminal {
		parts = append(parts, cut(n.TaskID, 20))
	}
	return strings.TrimRight(strings.Join(parts, "  "), " ") + "\n"
}

// recentIDs remembers the last ids, at least maxWaiting and at most twice as many.
type recentIDs struct{ now, before map[string]bool }

func (r *recentIDs) add(id string) {
	if len(r.now) >= maxWaiting || r.now == nil {
		r.before, r.now = r.now, make(map[string]bool)
	}
	r.now[id] = true
}

func (r *recentIDs) has(id string) bool { return r.now[id] || r.before[id] }

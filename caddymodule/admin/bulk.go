package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// lanes is how many events are changed at once. The inbox combines concurrent
	// changes into one write; more of them would crowd out callbacks.
	lanes = 8

	// bulkPage is how many events are read at a time.
	bulkPage = 256

	// progressEvery is the least time between two lines of progress.
	progressEvery = 200 * time.Millisecond
)

// bulk is a replay or purge of all events that match a filter. If that names a
// destination, only the deliveries there are changed.
type bulk struct {
	*call
	filter inbox.Filter
	to     string // where to deliver, if that is another destination
	limit  int64  // of events to change
	dryRun bool

	// change changes one event.
	change func(ctx context.Context, id string) error

	matched          int64
	changed, skipped atomic.Int64
	lines            bool
	lastLine         time.Time
}

func (c *call) replayMany() error {
	b := &bulk{call: c}
	b.change = func(ctx context.Context, id string) error { return b.again(ctx, id, b.filter.Destination, b.to) }
	p, err := b.read("to")
	if err != nil {
		return err
	}
	b.to = p.to()
	switch {
	case len(b.filter.States) == 0:
		b.filter.States = replayed(b.filter.Destination, b.to)
	case b.to == "" && slices.Contains(b.filter.States, inbox.Skipped):
		p.Fail("state", "an event that is skipped has no destination to be delivered to again: expected the parameter to as well, or no such state")
	}
	if err := p.failure(); err != nil {
		return err
	}
	return b.run("events replayed by hand")
}

// replayed returns the states of the events that a replay changes unless it says which.
// What waits for a destination anyway is only changed on explicit request; but what is
// delivered elsewhere includes it.
func replayed(destination, to string) []inbox.State {
	switch {
	case to == "":
		return []inbox.State{inbox.Delivered, inbox.Superseded, inbox.Dead}
	case destination != "": // which has not taken them
		return []inbox.State{inbox.Pending, inbox.Dead}
	default: // to one more
		return nil
	}
}

func (c *call) purgeMany() error {
	b := &bulk{call: c}
	b.change = func(ctx context.Context, id string) error {
		return c.gateway.Inbox().Purge(ctx, id, b.filter.Destination)
	}
	if _, err := b.read(); err != nil {
		return err
	}
	if len(b.filter.States) == 0 {
		b.filter.States = []inbox.State{inbox.Delivered, inbox.Superseded, inbox.Dead, inbox.Skipped} // not Pending
	}
	return b.run("events purged by hand")
}

// maxBulk bounds the parameter limit, and stands for none.
const maxBulk = 1 << 30

// read reads the request's parameters. Those of extra are known too.
func (b *bulk) read(extra ...string) (params, error) {
	p := b.params(slices.Concat(extra, []string{"dry_run", "limit", "all"}, control.FilterParams)...)
	b.filter, b.dryRun = p.Filter(), p.Boolean("dry_run")
	b.limit = int64(p.Number("limit", 1, maxBulk, maxBulk))
	all := p.Boolean("all")
	if err := p.failure(); err != nil {
		return p, err
	}
	if !all && !slices.ContainsFunc(control.FilterParams, p.Has) {
		return p, failure(http.StatusBadRequest, fmt.Errorf("there is no filter: expected at least one of the parameters %s, or all=true",
			strings.Join(control.FilterParams, ", ")))
	}
	if b.filter.Until.IsZero() || b.filter.Until.After(p.Now) {
		// or it would go on for as long as events arrive
		b.filter.Until = p.Now
	}
	b.lines = strings.Contains(b.r.Header.Get("Accept"), control.MediaLines)
	return p, nil
}

func (b *bulk) run(what string) error {
	if err := b.configured(b.to); err != nil {
		return err
	}
	ctx, cancel := b.context()
	defer cancel()
	err := b.changeAll(ctx)
	if !b.dryRun {
		b.audit(what, append(named(b.filter.Destination, b.to),
			zap.Int64("matched", b.matched),
			zap.Int64("changed", b.changed.Load()),
			zap.Int64("skipped", b.skipped.Load()),
			zap.String("filter", b.r.URL.RawQuery),
			zap.Error(err))...)
	}
	last := b.progress()
	switch {
	case err == nil:
		last.Done = true
	case b.lines && !b.lastLine.IsZero(), b.changed.Load() > 0:
		last.Error = err.Error()
	default:
		return inboxFailure(err)
	}
	if b.lines {
		return b.writeLine(last)
	}
	status := http.StatusOK
	if err != nil {
		status = http.StatusServiceUnavailable
	}
	return b.answer(status, last)
}

// changeAll changes the events, oldest first: in reverse order, a task's last event could
// be delivered before its first.
func (b *bulk) changeAll(ctx context.Context) error {
	page := inbox.Page{OldestFirst: true}
	for {
		if err := b.configured(b.to); err != nil { // or a reload would leave the rest behind
			return err
		}
		page.Limit = int(min(bulkPage, b.limit-b.changed.Load()))
		records, next, err := b.gateway.Inbox().List(ctx, b.filter, page)
		if err != nil {
			return err
		}
		b.matched += int64(len(records))
		if err := b.changeSome(ctx, records); err != nil {
			return err
		}
		if next == "" || b.changed.Load() >= b.limit {
			return nil
		}
		page.Cursor = next
		if b.lines && time.Since(b.lastLine) > progressEvery {
			if err := b.writeLine(b.progress()); err != nil {
				return err
			}
		}
	}
}

// changeSome changes a page of events: several at once, but those of a task one after
// the other.
func (b *bulk) changeSome(ctx context.Context, records []*inbox.Record) error {
	if b.dryRun {
		b.changed.Add(int64(len(records)))
		return nil
	}
	var byLane [lanes][]*inbox.Record
	for _, r := range records {
		lane := inbox.TaskKey(r.Event.TaskID) % lanes
		byLane[lane] = append(byLane[lane], r)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, lane := range byLane {
		group.Go(func() error {
			for _, r := range lane {
				if err := b.changeOne(ctx, r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (b *bulk) changeOne(ctx context.Context, r *inbox.Record) error {
	err := b.change(ctx, r.Event.ID)
	switch {
	case errors.Is(err, inbox.ErrState), errors.Is(err, inbox.ErrNotFound): // it has changed since it was listed
		b.skipped.Add(1)
	case err != nil:
		return err
	default:
		b.changed.Add(1)
	}
	return nil
}

func (b *bulk) progress() control.Bulk {
	return control.Bulk{Matched: b.matched, Changed: b.changed.Load(), Skipped: b.skipped.Load(), DryRun: b.dryRun}
}

// writeLine writes a line of progress.
func (b *bulk) writeLine(line control.Bulk) error {
	if b.lastLine.IsZero() {
		b.w.Header().Set("Content-Type", control.MediaLines)
	}
	b.lastLine = time.Now()
	if err := encode(b.w, line); err != nil {
		return err
	}
	return http.NewResponseController(b.w).Flush()
}

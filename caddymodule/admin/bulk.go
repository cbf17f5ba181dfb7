package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// progressEvery is the least time between two lines of progress.
const progressEvery = 200 * time.Millisecond

// bulk is a replay or purge of all events that match a filter. If that names a
// destination, only the deliveries there are changed.
type bulk struct {
	*call
	control.Change
	lines    bool
	lastLine time.Time
}

func (c *call) newBulk() *bulk {
	b := &bulk{call: c, Change: control.Change{Gateway: c.gateway}}
	b.Progress = b.progress
	return b
}

func (c *call) replayMany() error {
	b := c.newBulk()
	b.Do = func(ctx context.Context, id string) error {
		return control.Again(ctx, c.gateway, id, b.Filter.Destination, b.To)
	}
	p, err := b.read("to")
	if err != nil {
		return err
	}
	b.To = p.to()
	switch {
	case len(b.Filter.States) == 0:
		b.Filter.States = replayed(b.Filter.Destination, b.To)
	case b.To == "" && slices.Contains(b.Filter.States, inbox.Skipped):
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
	b := c.newBulk()
	b.Do = func(ctx context.Context, id string) error {
		return control.Purge(ctx, c.gateway, id, b.Filter.Destination)
	}
	if _, err := b.read(); err != nil {
		return err
	}
	if len(b.Filter.States) == 0 {
		b.Filter.States = []inbox.State{inbox.Delivered, inbox.Superseded, inbox.Dead, inbox.Skipped} // not Pending
	}
	return b.run("events purged by hand")
}

// maxBulk bounds the parameter limit, and stands for none.
const maxBulk = 1 << 30

// read reads the request's parameters. Those of extra are known too.
func (b *bulk) read(extra ...string) (params, error) {
	p := b.params(slices.Concat(extra, []string{"dry_run", "limit", "all"}, control.FilterParams)...)
	b.Filter, b.DryRun = p.Filter(), p.Boolean("dry_run")
	b.Limit = int64(p.Number("limit", 1, maxBulk, maxBulk))
	all := p.Boolean("all")
	if err := p.failure(); err != nil {
		return p, err
	}
	if !all && !slices.ContainsFunc(control.FilterParams, p.Has) {
		return p, failure(http.StatusBadRequest, fmt.Errorf("there is no filter: expected at least one of the parameters %s, or all=true",
			strings.Join(control.FilterParams, ", ")))
	}
	if b.Filter.Until.IsZero() || b.Filter.Until.After(p.Now) {
		// or it would go on for as long as events arrive
		b.Filter.Until = p.Now
	}
	b.lines = strings.Contains(b.r.Header.Get("Accept"), control.MediaLines)
	return p, nil
}

func (b *bulk) run(what string) error {
	if err := b.configured(b.To); err != nil {
		return err
	}
	ctx, cancel := b.context()
	defer cancel()
	_, err := b.Run(ctx)
	last := b.Result()
	if !b.DryRun {
		b.audit(what, append(named(b.Filter.Destination, b.To),
			zap.Int64("matched", last.Matched),
			zap.Int64("changed", last.Changed),
			zap.Int64("skipped", last.Skipped),
			zap.String("filter", b.r.URL.RawQuery),
			zap.Error(err))...)
	}
	switch {
	case err == nil:
		last.Done = true
	case b.lines && !b.lastLine.IsZero(), last.Changed > 0:
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

// progress writes a line of progress, now and then.
func (b *bulk) progress(so control.Bulk) error {
	if b.lines && time.Since(b.lastLine) > progressEvery {
		return b.writeLine(so)
	}
	return nil
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

package gateway

import (
	"context"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Asking implements control.Gateway.
func (o *operated) Asking() bool { return o.config.askAfter() > 0 }

// Track implements control.Gateway.
func (o *operated) Track(ctx context.Context, source inbox.TaskSource, ids ...string) (control.Tracked, error) {
	if !o.Asking() {
		return control.Tracked{}, control.ErrNotAsking
	}
	if err := control.CheckTaskIDs(ids); err != nil {
		return control.Tracked{}, err
	}
	tracker, err := control.Tracker(o.gateway.inbox)
	if err != nil {
		return control.Tracked{}, err
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	tasks := make([]inbox.Task, 0, len(ids))
	seen := make(map[string]bool, len(ids))
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			tasks = append(tasks, inbox.Task{ID: id, Source: source, Since: now, Due: now.Add(o.config.askAfter())})
		}
	}
	added, err := tracker.Track(ctx, tasks...)
	if err != nil {
		return control.Tracked{}, err
	}
	return control.Tracked{Added: added, Known: len(ids) - added}, nil
}

// taskStats returns nil if Fotor is not asked for tasks.
func (o *operated) taskStats(ctx context.Context) (*control.TaskStats, error) {
	if !o.Asking() {
		return nil, nil //nolint:nilnil // there is nothing to tell
	}
	tracker, err := control.Tracker(o.gateway.inbox)
	if err != nil {
		return nil, err
	}
	stats, err := tracker.TaskStats(ctx)
	if err != nil {
		return nil, err
	}
	answer := &control.TaskStats{Waiting: stats.Waiting, Due: stats.Due, Dropped: stats.Dropped}
	if !stats.Oldest.IsZero() {
		oldest := stats.Oldest.UTC()
		answer.Oldest = &oldest
	}
	return answer, nil
}

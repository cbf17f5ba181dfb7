package command

import (
	"context"
	"fmt"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// countTasks counts the tasks for which Fotor is to be asked.
func (m *migration) countTasks(ctx context.Context) error {
	tracker, ok := m.source.(inbox.Tracker)
	if !ok {
		return nil
	}
	stats, err := tracker.TaskStats(ctx)
	m.Tracked = stats.Waiting
	return err
}

// moveTasks moves them, those that were tracked first before the others. Their events were
// moved before, so that none comes whose final event is there.
func (m *migration) moveTasks(ctx context.Context) error {
	if m.Tracked == 0 {
		return nil
	}
	source, _ := m.source.(inbox.Tracker)
	target, ok := m.target.(inbox.Tracker)
	if !ok {
		return fmt.Errorf("the inbox %s cannot take them over", m.Inbox)
	}
	page := inbox.Page{Limit: inbox.MaxTrack, OldestFirst: true}
	for {
		tasks, next, err := source.Tasks(ctx, page)
		if err != nil {
			return err
		}
		added, err := target.Track(ctx, tasks...)
		m.TrackedImported += int64(added)
		if err != nil {
			return err
		}
		if next == "" {
			return nil
		}
		page.Cursor = next
	}
}

// tasksText says how many tasks were moved.
func (m *migrated) tasksText() string {
	switch {
	case m.Tracked == 0:
		return ""
	case m.DryRun:
		return fmt.Sprintf("%s that Fotor is to be asked for as well.\n", plural(m.Tracked, "task"))
	default:
		return fmt.Sprintf("%s that Fotor is to be asked for imported, of %s.\n", plural(m.TrackedImported, "task"), count(m.Tracked))
	}
}

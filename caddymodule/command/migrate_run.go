package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// migratePage is how many events are read at a time.
	migratePage = 512

	// migrateLanes is how many are imported at once; those of a task are imported one
	// after the other.
	migrateLanes = 32
)

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// countSource counts what there is to move.
func (m *migration) countSource(ctx context.Context) error {
	stats, err := m.source.Stats(ctx)
	if err != nil {
		return err
	}
	for _, state := range inbox.States {
		m.add(state, stats.Events[state])
	}
	m.Quarantined = stats.Quarantined
	if err := m.countTasks(ctx); err != nil {
		return err
	}
	for _, d := range stats.Destinations {
		hold, err := holdOf(ctx, m.source, d.Name)
		if err != nil {
			return err
		}
		m.HeldByHand = m.HeldByHand || hold.InForce(m.session.now())
		m.destinations = append(m.destinations, d.Name)
	}
	return nil
}

// holdOf returns the hold by hand of a destination.
func holdOf(ctx context.Context, in inbox.Inbox, destination string) (inbox.Hold, error) {
	queue, err := in.Queue(ctx, destination)
	if err != nil {
		return inbox.Hold{}, err
	}
	return queue.Hold(ctx)
}

// run moves everything. The hold by hand goes first, so that no event is delivered in
// spite of it.
func (m *migration) run(ctx context.Context) error {
	before, err := m.target.Stats(ctx)
	if err != nil {
		return err
	}
	for _, destination := range m.destinations {
		if err := m.moveHold(ctx, destination); err != nil {
			return fmt.Errorf("the queue of destination %s: %w", destination, err)
		}
	}
	read, err := m.moveEvents(ctx)
	if err != nil {
		return err
	}
	if err := m.moveQuarantine(ctx); err != nil {
		return fmt.Errorf("the quarantine: %w", err)
	}
	if err := m.moveTasks(ctx); err != nil {
		return fmt.Errorf("the tasks that Fotor is to be asked for: %w", err)
	}
	if err := m.verify(ctx, read, events(before)); err != nil {
		return err
	}
	m.Done = true
	return nil
}

// moveHold makes a destination's queue in the new inbox, and sets the old one's hold by
// hand there, unless there is one already.
func (m *migration) moveHold(ctx context.Context, destination string) error {
	queue, err := m.target.Queue(ctx, destination)
	if err != nil {
		return err
	}
	old, err := holdOf(ctx, m.source, destination)
	if err != nil || !old.InForce(m.session.now()) {
		return err
	}
	if now, err := queue.Hold(ctx); err != nil || now.InForce(m.session.now()) {
		return err
	}
	return queue.SetHold(ctx, old)
}

// moveEvents imports all events, oldest first, and returns how many there were.
func (m *migration) moveEvents(ctx context.Context) (read int64, err error) {
	bar := m.session.newBar("imported", m.total())
	defer func() { bar.end(err == nil) }()
	var imported, duplicates atomic.Int64
	defer func() { m.Imported, m.Duplicates = imported.Load(), duplicates.Load() }()
	page := inbox.Page{Limit: migratePage, OldestFirst: true}
	for {
		records, next, err := m.source.List(ctx, inbox.Filter{}, page)
		if err != nil {
			return read, err
		}
		if err := m.importPage(ctx, records, &imported, &duplicates); err != nil {
			return read, err
		}
		read += int64(len(records))
		if m.session.stderrTerminal {
			bar.set(read)
		}
		if next == "" {
			return read, nil
		}
		page.Cursor = next
	}
}

func (m *migration) importPage(ctx context.Context, records []*inbox.Record, imported, duplicates *atomic.Int64) error {
	var byLane [migrateLanes][]string
	for _, r := range records {
		lane := inbox.TaskKey(r.Event.TaskID) % migrateLanes
		byLane[lane] = append(byLane[lane], r.Event.ID)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, lane := range byLane {
		group.Go(func() error {
			for _, id := range lane {
				r, err := m.source.Get(ctx, id)
				if err != nil {
					return err
				}
				duplicate, err := m.importer.Import(ctx, r)
				switch {
				case err != nil:
					return fmt.Errorf("importing the event %s: %w", id, err)
				case duplicate:
					duplicates.Add(1)
				default:
					imported.Add(1)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// moveQuarantine moves the callbacks that are not in the new quarantine and that it has
// room for, oldest first, since the oldest are removed first. Their ids are not kept, so
// bodies are compared: one that is there was moved before, or has arrived since.
func (m *migration) moveQuarantine(ctx context.Context) error {
	there := make(map[inbox.SuspectKey]bool)
	err := eachSuspect(ctx, m.target, func(s *inbox.Suspect) { there[s.Key()] = true })
	if err != nil {
		return err
	}
	var ids []int64
	if err := eachSuspect(ctx, m.source, func(s *inbox.Suspect) { ids = append(ids, s.ID) }); err != nil {
		return err
	}
	for _, id := range slices.Backward(ids[:min(len(ids), m.quarantine())]) {
		suspect, err := m.source.Suspect(ctx, id)
		if err != nil {
			return err
		}
		if there[suspect.Key()] {
			m.QuarantineDuplicates++
			continue
		}
		moved := *suspect
		if err := m.target.Quarantine(ctx, &moved); err != nil {
			return err
		}
		m.QuarantineImported++
	}
	return nil
}

// quarantine returns how many callbacks the new quarantine keeps.
func (m *migration) quarantine() int {
	if m.config.Quarantine != nil {
		return max(0, *m.config.Quarantine)
	}
	return inbox.DefaultQuarantine
}

func eachSuspect(ctx context.Context, in inbox.Quarantine, f func(*inbox.Suspect)) error {
	var page inbox.Page
	for {
		suspects, next, err := in.Suspects(ctx, page)
		if err != nil {
			return err
		}
		for _, s := range suspects {
			f(s)
		}
		if next == "" {
			return nil
		}
		page.Cursor = next
	}
}

// verify compares counts. Nothing else uses the old file, but gateways may have added
// events to the new inbox meanwhile, and deleted delivered ones that were old enough.
func (m *migration) verify(ctx context.Context, read, before int64) error {
	if read != m.total() || m.Imported+m.Duplicates != read {
		return fmt.Errorf("%s are in the file, but %s were read and %s taken", plural(m.total(), "event"), count(read), count(m.Imported+m.Duplicates))
	}
	after, err := m.target.Stats(ctx)
	if err != nil || events(after) >= before+m.Imported {
		return err
	}
	return m.verifyEach(ctx)
}

// verifyEach checks that the events are there that no gateway deletes by itself.
func (m *migration) verifyEach(ctx context.Context) error {
	page := inbox.Page{Limit: migratePage, OldestFirst: true}
	filter := inbox.Filter{States: []inbox.State{inbox.Pending, inbox.Dead}}
	for {
		records, next, err := m.source.List(ctx, filter, page)
		if err != nil {
			return err
		}
		for _, r := range records {
			if _, err := m.target.Get(ctx, r.Event.ID); errors.Is(err, inbox.ErrNotFound) {
				return fmt.Errorf("event %s is not in the new inbox though it was imported", r.Event.ID)
			} else if err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		page.Cursor = next
	}
}

// events returns the number of events in all states.
func events(s inbox.Stats) (n int64) {
	for _, of := range s.Events {
		n += of
	}
	return n
}

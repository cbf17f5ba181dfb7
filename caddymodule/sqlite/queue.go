package sqlite

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// queue has the deliveries to one destination.
type queue struct {
	*store
	name   string
	slot   int // 0 is the default destination
	leases *leases
	leaser leaser
	wakeUp chan struct{} // something may be due
	view   atomic.Pointer[queueView]

	// asked says that somebody has asked for the queue since the inbox was opened.
	asked atomic.Bool

	texts sqlTexts

	// As committed; only the writer uses them. The counters of the default destination
	// are in meta.
	counters counters
	hold     inbox.Hold
}

// queueView is the state of a queue after the last commit that changed it, for readers
// that must not wait for the writer.
type queueView struct {
	counters
	hold   inbox.Hold
	next   int64 // no event from here on goes to the destination
	routed bool  // some of the events before do not go to the default destination alone
}

func newQueue(s *store, slot int, name string, c counters) *queue {
	q := &queue{store: s, name: name, slot: slot, counters: c, leases: newLeases(c.lowSeq), wakeUp: make(chan struct{}, 1)}
	q.leaser.queue = q
	suffix := ""
	if slot > 0 {
		suffix = fmt.Sprint("_", slot)
	}
	q.texts.names = strings.NewReplacer("$bit", fmt.Sprintf("(1 << %d)", slot), "$", suffix)
	q.texts.byTemplate = make(map[string]string)
	return q
}

// isDefault reports whether the queue is that of the default destination, whose
// counters are in meta and which has the events without a row in routes.
func (q *queue) isDefault() bool { return q.slot == 0 }

// bit is the set with the queue's slot alone.
func (q *queue) bit() slots { return slots(1) << q.slot }

// sql returns the text of a statement on the tables of the queue. In the template, $
// stands for what is appended to their names, and $bit for the set with their slot.
func (q *queue) sql(template string) string { return q.texts.get(template) }

// sqlTexts are the statements of a queue by their templates.
type sqlTexts struct {
	names      *strings.Replacer
	mu         sync.RWMutex
	byTemplate map[string]string
}

func (x *sqlTexts) get(template string) string {
	x.mu.RLock()
	text, ok := x.byTemplate[template]
	x.mu.RUnlock()
	if !ok {
		text = x.names.Replace(template)
		x.mu.Lock()
		x.byTemplate[template] = text
		x.mu.Unlock()
	}
	return text
}

// wake wakes the leaser, because something may be due.
func (q *queue) wake() {
	select {
	case q.wakeUp <- struct{}{}:
	default:
	}
}

// isGone reports whether the destination counts as gone: nothing is left of it, and
// nobody has asked for it.
func (q *queue) isGone() bool { return !q.isDefault() && !q.asked.Load() && q.view.Load().empty() }

// publish makes a committed state known.
func (q *queue) publish(c counters, next int64, routed bool) {
	q.view.Store(&queueView{counters: c, hold: q.hold, next: next, routed: routed})
}

// queues are the queues of an inbox. Only the writer changes which there are.
type queues struct {
	mu      sync.RWMutex
	byName  map[string]*queue
	bySlot  [maxSlots]*queue
	unasked atomic.Int32 // how many nobody has asked for
}

func (s *queues) add(q *queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byName == nil {
		s.byName = make(map[string]*queue)
	}
	s.byName[q.name], s.bySlot[q.slot] = q, q
	if !q.asked.Load() {
		s.unasked.Add(1)
	}
}

// ask returns the queue of that name, which stays from then on, or nil.
func (s *queues) ask(name string) *queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.byName[name]
	if q != nil && !q.asked.Swap(true) {
		s.unasked.Add(-1)
	}
	return q
}

// removeUnasked removes the queue, unless somebody has asked for it.
func (s *queues) removeUnasked(q *queue) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.asked.Load() {
		return false
	}
	delete(s.byName, q.name)
	s.bySlot[q.slot] = nil
	s.unasked.Add(-1)
	return true
}

// find returns the queue of that name, or nil.
func (s *queues) find(name string) *queue {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byName[name]
}

// list returns the queues in the order of their names.
func (s *queues) list() []*queue {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*queue, 0, len(s.byName))
	for _, q := range s.byName {
		all = append(all, q)
	}
	slices.SortFunc(all, func(a, b *queue) int { return cmp.Compare(a.name, b.name) })
	return all
}

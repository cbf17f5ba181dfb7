package sqlite

import "time"

// forgetAfter is the time between two looks for destinations that are gone. The first
// look comes as long after the inbox was opened: by then its user has asked for those
// that it wants, and for their holds.
const forgetAfter = time.Minute

// leftBehind frees the slots of destinations for which nobody has asked since the inbox
// was opened, once nothing is left of them.
type leftBehind struct {
	next time.Time
}

// due returns when to look again, and false if somebody has asked for all destinations.
func (l *leftBehind) due(w *writer) (time.Time, bool) {
	if l.next.IsZero() {
		l.next = w.now().Add(forgetAfter)
	}
	return l.next, w.queues.unasked.Load() > 0
}

// step frees one slot.
func (l *leftBehind) step(w *writer, now time.Time) error {
	for _, q := range w.queues.bySlot {
		if q != nil && q.isGone() {
			return w.transact(func(t *tx) error {
				_, err := t.drop(q)
				return err
			})
		}
	}
	l.next = now.Add(forgetAfter)
	return nil
}

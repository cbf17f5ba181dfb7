package sqlite

import (
	"database/sql/driver"
	"math"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// retirePrecision is the fraction of Policy.Keep by which an event may stay
	// longer, so that passes are rare.
	retirePrecision = 100

	// retirePause is the least time between two passes.
	retirePause = 100 * time.Millisecond

	// retireHaste is how far behind a pass is, as a fraction of Policy.Keep, when it rests
	// half as long as usual.
	retireHaste = 1.0 / 30

	// untrustedPause is the time between two checks whether the clock can be
	// trusted again.
	untrustedPause = time.Minute

	// retireRoom is the fraction of the size limit that is kept free by
	// removing delivered events early.
	retireRoom = 8
)

// retirement removes events whose deliveries have all ended as delivered or superseded,
// the last of them longer than Policy.Keep ago, and skipped ones that were stored that
// long ago. While the inbox is nearly full it removes the oldest of any age: mistaking a
// repeat for a new event is better than refusing a new one.
//
// A pass reads, step by step and in order of arrival, only the blocks that may have such
// events. Of what was in the file when it was opened nothing is known; that is read once.
type retirement struct {
	ends    ends
	unknown span      // events that were in the file and were not read yet
	block   span      // what is left of the block that is being read
	behind  float64   // how much longer than Policy.Keep its first event may have stayed, as a fraction of that
	soonest time.Time // when the next pass may begin
	pass    pass
}

// pass is the work of one pass so far.
type pass struct {
	began         time.Time // zero if none is under way
	looked        time.Time // as of when events are too old
	read, removed int64
}

// begin makes the retirement read all events.
func (r *retirement) begin(m *meta) { r.unknown = span{last: m.nextSeq - 1} }

// due returns when the next step is due, and false if there is nothing to
// remove.
func (r *retirement) due(w *writer) (time.Time, bool) {
	e := &w.meta.events
	none := len(r.ends.blocks) == 0 && r.block.empty() && r.unknown.empty()
	switch {
	case !r.pass.began.IsZero():
		return time.Time{}, true
	case none, e[inbox.Delivered]+e[inbox.Superseded]+e[inbox.Skipped] == 0:
		return time.Time{}, false
	case w.nearlyFull():
		return time.Time{}, true
	case !r.block.empty(), !r.unknown.empty():
		return r.soonest, true
	}
	if first := time.UnixMicro(r.ends.first).Add(w.policy.Load().Keep); first.After(r.soonest) {
		return first, true
	}
	return r.soonest, true
}

// nearlyFull reports whether ended events must make room.
func (w *writer) nearlyFull() bool {
	limit := w.maxSize.Load()
	return w.used() > limit-limit/retireRoom
}

// reset makes a new pass begin as soon as an event is too old, because the policy has
// changed.
func (r *retirement) reset(w *writer) {
	if !r.pass.began.IsZero() {
		r.end(w)
	}
	r.soonest = time.Time{}
}

const (
	readEnds = `SELECT seq, state, settled_at FROM delivery WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT +?3`

	// readAllEnds is for when there are rows in routes. Those of the default destination
	// and of routes are merged in the order of arrival.
	readAllEnds = `SELECT d.seq AS seq, d.state, d.settled_at, 1, 0, 0, 0 FROM delivery d
		WHERE d.seq > ?1 AND d.seq <= ?2 AND NOT EXISTS (SELECT 1 FROM routes r WHERE r.seq = d.seq)
		UNION ALL SELECT seq, NULL, settled_at, slots, open, delivered, dead FROM routes WHERE seq > ?1 AND seq <= ?2
		ORDER BY 1 LIMIT +?3`
)

// ended is an event that may have ended everywhere.
type ended struct {
	seq       int64
	state     state // of its only delivery, unless it has a route
	route     route
	settledAt int64
}

// scanEnded reads the columns of readEnds or readAllEnds.
func scanEnded(row []driver.Value) ended {
	e := ended{seq: integer(row[0]), state: state(integer(row[1])), settledAt: integer(row[2])}
	if row[1] == nil {
		e.route = scanRoute(append(row[3:7:7], row[2]))
	}
	return e
}

// isDone reports whether the event is kept only for a while.
func (e *ended) isDone() bool {
	if e.route.stored {
		return e.route.isDone()
	}
	return e.state == delivered || e.state == superseded
}

// ends records that an event stays only for a while from a time on.
func (t *tx) ends(seq, at int64) { t.w.maintenance.retirement.ends.add(seq, at) }

// step processes the next rows.
func (r *retirement) step(w *writer) error {
	now := w.now()
	trusted := w.maintenance.clock.Trusted(now)
	if !trusted && !w.nearlyFull() { // removal is final
		r.soonest, r.pass = now.Add(untrustedPause), pass{}
		return nil
	}
	keep := w.policy.Load().Keep
	limit := r.limit(now, keep)
	if r.behind = 0; w.nearlyFull() {
		limit, r.behind = math.MaxInt64, 1
	}
	if r.block.empty() {
		r.block = r.ends.take(limit)
	}
	switch {
	case !r.block.empty():
		r.behind = max(r.behind, float64(now.Add(-keep).UnixMicro()-r.block.first)/float64(max(1, keep.Microseconds())))
		return r.read(w, &r.block, limit)
	case !r.unknown.empty():
		return r.read(w, &r.unknown, limit)
	}
	r.end(w)
	return nil
}

// limit returns up to when events must have ended to be removed. It stays the same for a
// while, so that the block in which it lies is not read again and again, but moves on in a
// pass that takes long.
func (r *retirement) limit(now time.Time, keep time.Duration) int64 {
	p := &r.pass
	if p.began.IsZero() {
		p.began, p.looked = now, now
	} else if r.block.empty() && now.Sub(p.looked) >= retireInterval(keep) {
		p.looked = now
	}
	return p.looked.Add(-keep).UnixMicro()
}

// retireInterval is the least time from one pass to the next.
func retireInterval(keep time.Duration) time.Duration { return max(retirePause, keep/retirePrecision) }

// pause returns how long to rest after a step, as a multiple of the time that it took: less
// the further behind the retirement is, so that it catches up at any load. A batch of
// requests comes after each step all the same.
func (r *retirement) pause() float64 { return maintenancePause / (1 + r.behind/retireHaste) }

// read reads the next events of a range, and removes those that are too old.
func (r *retirement) read(w *writer, s *span, limit int64) error {
	query := readEnds
	if w.meta.routed > 0 {
		query = readAllEnds
	}
	var expired []ended
	after, seen := s.after, int64(0)
	err := w.conn.query(query, func(row []driver.Value) error {
		seen++
		e := scanEnded(row)
		after = e.seq
		switch {
		case !e.isDone():
		case e.settledAt <= limit:
			expired = append(expired, e)
		default:
			r.ends.add(e.seq, e.settledAt)
		}
		return nil
	}, s.after, s.last, w.limits.retireStep)
	if err == nil && len(expired) > 0 {
		err = w.transact(func(t *tx) error { return t.retire(expired) })
	}
	if err != nil {
		return err
	}
	r.pass.read += seen
	r.pass.removed += int64(len(expired))
	if s.after = after; seen < w.limits.retireStep {
		*s = span{}
	}
	return nil
}

// end ends a pass.
func (r *retirement) end(w *writer) {
	now := w.now()
	r.soonest = now.Add(retireInterval(w.policy.Load().Keep))
	w.log.Debug("looked for events to remove", zap.String("path", w.path), zap.Int64("read", r.pass.read),
		zap.Int64("removed", r.pass.removed), zap.Duration("took", now.Sub(r.pass.began)))
	r.pass = pass{}
}

// retire removes events that are done, which are in order of arrival. Those with
// consecutive numbers are removed at once, which costs much less than one by one.
func (t *tx) retire(done []ended) error {
	for len(done) > 0 {
		n := 1
		for n < len(done) && done[n].seq == done[0].seq+int64(n) {
			n++
		}
		if err := t.retireRange(done[:n]); err != nil {
			return err
		}
		done = done[n:]
	}
	return nil
}

const (
	deleteDeliveries = `DELETE FROM delivery$ WHERE seq BETWEEN ? AND ?`
	deleteAttempts   = `DELETE FROM attempts$ WHERE seq BETWEEN ? AND ?`
	deleteRoutes     = `DELETE FROM routes WHERE seq BETWEEN ? AND ?`
	deleteEvents     = `DELETE FROM events WHERE seq BETWEEN ? AND ?`
	deleteTraces     = `DELETE FROM traces WHERE seq BETWEEN ? AND ?`
	deleteOutcomes   = `DELETE FROM outcomes WHERE seq BETWEEN ? AND ?`
)

// retireRange removes all events from the first to the last of these, which are done.
func (t *tx) retireRange(done []ended) error {
	all, routed, err := t.countRetired(done)
	if err != nil {
		return err
	}
	queues, err := t.queues(all)
	if err != nil {
		return err
	}
	statements := []string{deleteEvents, deleteTraces}
	if t.w.outcomes.Load() {
		statements = append(statements, deleteOutcomes)
	}
	if routed {
		statements = append(statements, deleteRoutes)
	}
	for _, q := range queues {
		statements = append(statements, q.sql(deleteDeliveries), q.sql(deleteAttempts))
	}
	for _, statement := range statements {
		if err := t.c.exec(statement, done[0].seq, done[len(done)-1].seq); err != nil {
			return err
		}
	}
	return nil
}

// countRetired counts events and deliveries that are removed. It returns the set of
// their destinations, and whether any has a route.
func (t *tx) countRetired(done []ended) (all slots, routed bool, err error) {
	t.meta.stale += int64(len(done))
	for i := range done {
		e := &done[i]
		if !e.route.stored {
			all |= defaultOnly
			t.meta.events[e.state.public()]--
			t.of(t.w.usual).counters.count(e.state, false, -1)
			continue
		}
		queues, err := t.queues(e.route.to)
		if err != nil {
			return 0, false, err
		}
		all, routed = all|e.route.to, true
		t.meta.events[e.route.state()]--
		t.meta.routed--
		for _, q := range queues {
			t.of(q).counters.count(e.route.ended(q), false, -1)
		}
	}
	return all, routed, nil
}

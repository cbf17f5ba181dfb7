package nats

import (
	"context"
	"encoding/json"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// destinationTally is a summary of the deliveries to a destination, without those in home.
type destinationTally struct {
	tally
	waiting
}

func (t *destinationTally) public(name string) inbox.DestinationStats {
	d := inbox.DestinationStats{Name: name, OldestPending: t.oldest.at}
	t.ended(&d.Deliveries)
	d.Deliveries[inbox.Pending] = int64(t.counts[pending]+t.counts[leased]) + t.count
	return d
}

// tally counts the deliveries to a destination.
func (d *destination) tally(ctx context.Context) (t destinationTally, err error) {
	var jobs errgroup.Group
	jobs.Go(func() (err error) {
		t.tally, err = d.tallyOf(ctx, d.place(), pending, leased, superseded, dead, purged)
		return err
	})
	jobs.Go(func() (err error) {
		if d.isDefault() {
			// Those that wait for their first attempt are counted together with those
			// in home.
			t.oldest, err = d.oldestRecord(ctx, d.place())
			return err
		}
		t.waiting, err = d.waiting(ctx, false)
		return err
	})
	return t, jobs.Wait()
}

// waiting is what is pending and has no record, which is what was never settled.
type waiting struct {
	count  int64  // approximate if it is more than limits.scan
	oldest oldest // of all that are pending, also of those with a record
}

// oldest is the number of an event and when it was received; zero if there is none.
type oldest struct {
	seq uint64
	at  time.Time
}

func (o *oldest) take(seq uint64, at time.Time) {
	if o.seq == 0 || seq < o.seq {
		o.seq, o.at = seq, at
	}
}

// oldestRecord returns the oldest of the first events that have a pending record.
func (s *store) oldestRecord(ctx context.Context, at place) (o oldest, err error) {
	records, _, err := s.directGet(ctx, at.stream, query{NextFor: at.ofKind(pending), Batch: s.options.limits.scan, MaxBytes: maxAnswer})
	for _, m := range records {
		var r record
		if json.Unmarshal(m.data, &r) == nil {
			o.take(r.Event, inbox.FromMicros(r.Received))
		}
	}
	return o, err
}

// waiting returns what waits for its first attempt at a destination. These are among the
// events that were not acknowledged yet. With onlyOldest it does not count them.
func (d *destination) waiting(ctx context.Context, onlyOldest bool) (w waiting, err error) {
	at := d.place()
	if d.isDefault() {
		at = d.subjects.home()
	}
	if w.oldest, err = d.oldestRecord(ctx, at); err != nil {
		return w, err
	}
	there, err := d.js.Consumer(ctx, d.subjects.stream, d.consumer())
	if err != nil {
		return w, err
	}
	info := there.CachedInfo()
	if info.NumPending == 0 && info.NumAckPending == 0 {
		return w, nil
	}
	found, seen, left := int64(0), 0, uint64(0)
	for past := info.AckFloor.Stream; seen < d.options.limits.scan; {
		var messages []message
		messages, left, err = d.directGet(ctx, d.subjects.stream, query{Seq: max(past+1, d.from.Load()), Batch: d.options.limits.window, MaxBytes: maxAnswer})
		if err != nil || len(messages) == 0 {
			break
		}
		n, err := d.countWaiting(ctx, messages, &w.oldest)
		if err != nil {
			return w, err
		}
		found, seen, past = found+n, seen+len(messages), messages[len(messages)-1].seq
		if left == 0 || onlyOldest && found > 0 {
			break
		}
	}
	w.count = found
	if left > 0 && seen > 0 { // it is assumed that the others are like these
		w.count += min(int64(left)*found/int64(seen), int64(info.NumPending)+int64(info.NumAckPending))
	}
	return w, err
}

// countWaiting counts the events that wait for their first attempt, and takes the oldest
// that is pending.
func (d *destination) countWaiting(ctx context.Context, messages []message, o *oldest) (n int64, err error) {
	var events []*stored
	for _, m := range messages {
		e, err := decodeEvent(m)
		if err != nil {
			return 0, err
		}
		if e.goesTo(d.name) {
			events = append(events, e)
		}
	}
	if len(events) == 0 {
		return 0, nil
	}
	members, err := d.membersOf(ctx, events)
	for _, m := range members {
		if !m.pendingState() || m.newer {
			continue
		}
		o.take(m.seq, m.ReceivedAt)
		if m.kind == none {
			n++
		}
	}
	return n, err
}

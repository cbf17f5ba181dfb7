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
	unacknowledged := int64(info.NumPending) + int64(info.NumAckPending)
	if unacknowledged == 0 {
		return w, nil
	}
	scan, left := uint64(d.options.limits.scan), uint64(0)
	past := max(info.AckFloor.Stream, saturatingSub(d.from.Load(), 1))
	for seen := uint64(0); seen < scan; {
		var messages []message
		messages, left, err = d.directGet(ctx, d.subjects.stream, query{Seq: past + 1, Batch: d.options.limits.window, MaxBytes: maxAnswer})
		if err != nil || len(messages) == 0 {
			return w, err
		}
		n, err := d.countWaiting(ctx, messages, &w.oldest)
		if err != nil {
			return w, err
		}
		w.count, seen, past = w.count+n, seen+uint64(len(messages)), messages[len(messages)-1].seq
		if left == 0 || w.count > 0 && (onlyOldest || seen+left > scan) {
			break
		}
	}
	if left > 0 && !onlyOldest {
		parts := fewSamples
		if w.count == 0 {
			parts = manySamples
		}
		rest, err := d.estimateWaiting(ctx, past, int64(left), parts)
		if err != nil {
			return w, err
		}
		w.count += min(rest.count, unacknowledged)
		if w.oldest.seq == 0 {
			w.oldest = rest.oldest
		}
	}
	return w, nil
}

// An estimate looks into so many parts of the events, and at a part of a window in each:
// those that were replayed elsewhere, purged, or leased out of turn are often next to each
// other. A server reads megabytes for each look, so there are many only if none of the oldest
// waits: then some that do must not be missed.
const (
	fewSamples    = 8
	manySamples   = 40
	windowSamples = 8
)

// estimateWaiting estimates what waits of the left events past that one.
func (d *destination) estimateWaiting(ctx context.Context, past uint64, left int64, parts int) (w waiting, err error) {
	state, err := d.eventState(ctx)
	if err != nil {
		return w, err
	}
	size := max(1, d.options.limits.window/windowSamples)
	part := saturatingSub(state.LastSeq, past) / uint64(parts)
	found := make([]waiting, parts)
	var jobs errgroup.Group
	for i := range parts {
		jobs.Go(func() error {
			from := past + 1 + uint64(i)*part + saturatingSub(part, uint64(size))/2
			messages, _, err := d.directGet(ctx, d.subjects.stream, query{Seq: from, Batch: size, MaxBytes: maxAnswer})
			if err != nil || len(messages) == 0 {
				return err
			}
			n, err := d.countWaiting(ctx, messages, &found[i].oldest)
			found[i].count = left * n / int64(len(messages))
			return err
		})
	}
	err = jobs.Wait()
	for _, one := range found {
		w.count += one.count
		if w.oldest.seq == 0 {
			w.oldest = one.oldest
		}
	}
	w.count /= int64(parts)
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

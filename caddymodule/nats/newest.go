package nats

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// Most new events are leased as the consumer brings them, and nothing is written or
// read for it. So one that is leased out of turn has to be told from the others
// before the consumer brings it, maybe to another Caddy. A message that all Caddys
// read every second says which numbers such events may have:
//
//   - A Caddy leases an event as it comes only if it has read that message less than
//     limits.known ago and the event's number is not in the range. Else it looks for a
//     record first.
//   - A Caddy leases an event out of turn only if the range has had its number for
//     longer than that, by writing a record where there was none. Then it asks whether
//     the consumer has handed the event out by now, and if so it withdraws.
//
// So if a Caddy leased an event without a look, it had it before the record was
// written, and the other one withdraws. That takes no clock that is right, only
// clocks that run at about the same speed.

// span is the numbers of the events that may be leased out of turn.
type span struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

func (r span) has(seq uint64) bool { return r.From <= seq && seq <= r.To }

// turns is the message that says which events have to be looked at before they are leased.
type turns struct {
	span

	// Look is the number of the last event of which a delivery that was never tried was
	// purged or given to another destination. Up to it, each is looked at.
	Look uint64 `json:"look,omitempty"`
}

// newest is what an inbox has to know for leases out of turn.
type newest struct {
	known time.Duration // for which what was read counts

	mu      sync.Mutex
	span    span
	look    uint64    // as turns.Look
	record  uint64    // number of the message that says so
	at      time.Time // when it was asked for
	reading bool
	opened  []opening // oldest first; only the first may be open

	pending   uint64    // events that the consumer has yet to bring
	counted   time.Time // when that was so
	crowded   time.Time // since when there is a backlog; zero if there is none
	looked    []span    // events of which none is free to be leased out of turn, in order
	lookAgain time.Time
	blocked   []blocked // some of those that waited for another of their task
	woken     time.Time // when all of them were looked at again
	extended  uint64    // the last event when the range was made last
	made      time.Time
}

// opening is a range and the time since when it is known to be everybody's.
type opening struct {
	span
	since time.Time
}

// mayHave reports whether an event may have a record though it was not handed out before,
// for all that is known here.
func (n *newest) mayHave(seq uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.age() >= n.known || seq <= n.look || n.span.has(seq)
}

// age is how old what is known is. A clock that stood still while the machine was
// suspended does not make it younger.
func (n *newest) age() time.Duration {
	now := time.Now()
	return max(now.Sub(n.at), now.Round(0).Sub(n.at.Round(0)))
}

// open returns the range of which every Caddy has learned.
func (n *newest) open() span {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.openLocked()
}

func (n *newest) openLocked() span {
	wait := n.known + n.known/4
	for len(n.opened) > 1 && time.Since(n.opened[1].since) >= wait {
		n.opened = n.opened[1:]
	}
	if len(n.opened) == 0 || n.age() >= n.known || time.Since(n.opened[0].since) < wait {
		return span{1, 0}
	}
	open := n.opened[0].span
	return span{max(open.From, n.span.From), min(open.To, n.span.To)}
}

// lookNow reports whether it is time to look for the newest, or to see to the range.
func (n *newest) lookNow(now time.Time, crowded time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	open := n.openLocked()
	return !now.Before(n.lookAgain) && (open.From <= open.To || now.Sub(n.crowded) >= crowded)
}

// pause sets when to look again: for as long as the range is not open, only now and then.
func (n *newest) pause(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if open := n.openLocked(); open.To < open.From {
		d = max(d, n.known/4)
	}
	n.lookAgain = time.Now().Add(d)
}

// learn notes what the range was at a time or later.
func (n *newest) learn(now turns, record uint64, asked time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if asked.Before(n.at) {
		return
	}
	r := now.span
	n.at, n.look = asked, max(n.look, now.Look)
	if record == 0 {
		n.opened, n.looked = nil, nil
	} else if last := len(n.opened) - 1; last < 0 || n.opened[last].span != r {
		n.opened = append(n.opened, opening{r, time.Now()})
		_ = n.openLocked() // drops those that are not needed any more
	}
	n.span, n.record = r, record
}

// learnNewest has the range read if it was some time ago, and waits for that if what is
// known does not count any more.
func (q *queue) learnNewest(ctx context.Context) {
	n := &q.pick
	n.mu.Lock()
	age := n.age()
	due := age >= n.known/4 && !n.reading && q.link.isUp()
	n.reading = n.reading || due
	n.mu.Unlock()
	read := func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, lookTimeout)
		defer cancel()
		if err := q.readNewest(ctx); err != nil && ctx.Err() == nil {
			q.log.Debug("what may be leased out of turn cannot be read", zap.Error(err))
		}
		n.mu.Lock()
		n.reading = false
		n.mu.Unlock()
	}
	switch {
	case !due:
	case age >= n.known:
		read(ctx)
	default:
		go read(q.life) //nolint:contextcheck // others wait for it
	}
}

func (q *queue) readNewest(ctx context.Context) error {
	asked := time.Now()
	m, err := q.last(ctx, q.subjects.states(), q.subjects.metaOf(metaNewest, q.name))
	if err != nil {
		return err
	}
	var r turns
	if m == nil {
		q.pick.learn(r, 0, asked)
		return nil
	}
	if err := json.Unmarshal(m.data, &r); err != nil {
		return err
	}
	q.pick.learn(r, m.seq, asked)
	return nil
}

// lookUpTo has all Caddys look at an event before they lease it, because the delivery,
// which none may have tried yet, is purged or given to another destination. Those that
// have leased it by then, or do so within limits.known, make one attempt in vain.
func (d *destination) lookUpTo(ctx context.Context, seq uint64) error {
	subject := d.subjects.metaOf(metaNewest, d.name)
	for {
		m, err := d.last(ctx, d.subjects.states(), subject)
		if err != nil {
			return err
		}
		now, after := turns{span: span{1, 0}}, uint64(0)
		if m != nil {
			if err := json.Unmarshal(m.data, &now); err != nil {
				return err
			}
			after = m.seq
		}
		if seq > now.Look {
			now.Look = seq
			data, err := json.Marshal(now)
			if err != nil {
				return err
			}
			_, err = d.publish(ctx, &nats.Msg{Subject: subject, Data: data}, after, subject)
			if errors.Is(err, errConflict) {
				continue
			}
			if err != nil {
				return err
			}
		}
		if q := d.queueNamed(d.name); q != nil {
			q.pick.mu.Lock()
			q.pick.look = max(q.pick.look, seq)
			q.pick.mu.Unlock()
		}
		return nil
	}
}

// openNewest makes sure that events which come soon will be in the range, if there has
// been a backlog for a while. last is the number of the last event.
func (q *queue) openNewest(ctx context.Context, last uint64) error {
	n := &q.pick
	n.mu.Lock()
	ahead := uint64(newestWindow)
	if rate := n.rate(last); rate > 0 {
		ahead = max(ahead, uint64(rate*(4*n.known).Seconds()))
	}
	old, look, record := n.span, n.look, n.record
	enough := n.age() >= n.known || old.has(last) && old.To-last >= ahead/2 || time.Since(n.crowded) < q.options.limits.crowded
	n.mu.Unlock()
	if enough {
		return nil
	}
	there, err := q.js.Consumer(ctx, q.subjects.stream, q.consumer())
	if err != nil {
		return err
	}
	next := span{From: there.CachedInfo().AckFloor.Stream + 1, To: last + ahead}
	if next.From <= old.To { // events in the old range may still be waiting for their turn
		next.From, next.To = max(old.From, next.From), max(old.To, next.To)
	} else {
		next.From = max(next.From, saturatingSub(last+1, newestWindow))
	}
	data, err := json.Marshal(turns{next, look})
	if err != nil {
		return err
	}
	asked, subject := time.Now(), q.subjects.metaOf(metaNewest, q.name)
	seq, err := q.publish(ctx, &nats.Msg{Subject: subject, Data: data}, record, subject)
	if errors.Is(err, errConflict) {
		return q.readNewest(ctx) // another Caddy has done it
	}
	if err != nil {
		return err
	}
	n.learn(turns{next, look}, seq, asked)
	n.mu.Lock()
	n.extended, n.made = last, asked
	n.mu.Unlock()
	return nil
}

// rate is how many events a second have come since the range was made last.
func (n *newest) rate(last uint64) float64 {
	if n.made.IsZero() || last <= n.extended {
		return 0
	}
	return float64(last-n.extended) / max(time.Since(n.made), time.Second).Seconds()
}

// maxLooked bounds what is remembered of looks at the newest events. What is forgotten
// is looked at again.
const maxLooked = 256

// blocked is an event that was not leased out of turn as another of its task goes first.
type blocked struct {
	key string
	seq uint64
}

// maxBlocked bounds how many are remembered. The others come in turn.
const maxBlocked = 32

// block remembers an event that waits for another of its task.
func (n *newest) block(id string, seq uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.blocked = append(n.blocked, blocked{id[:keyLength], seq})
	n.blocked = n.blocked[max(0, len(n.blocked)-maxBlocked):]
}

// wakeTask has the events of a task looked at again.
func (n *newest) wakeTask(id string) {
	n.wake(func(b blocked) bool { return b.key == id[:keyLength] })
}

// wakeAll has all that wait looked at again, as other Caddys may have settled what they
// wait for.
func (n *newest) wakeAll() {
	n.mu.Lock()
	due := time.Since(n.woken) >= countAgain
	if due {
		n.woken = time.Now()
	}
	n.mu.Unlock()
	if due {
		n.wake(func(blocked) bool { return true })
	}
}

func (n *newest) wake(which func(blocked) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.blocked = slices.DeleteFunc(n.blocked, func(b blocked) bool {
		if which(b) {
			n.forgetLocked(b.seq)
		}
		return which(b)
	})
}

// forget has an event looked at again.
func (n *newest) forget(seq uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forgetLocked(seq)
}

func (n *newest) forgetLocked(seq uint64) {
	for i, done := range n.looked {
		if done.has(seq) {
			parts := slices.DeleteFunc([]span{{done.From, seq - 1}, {seq + 1, done.To}}, func(r span) bool { return r.To < r.From })
			n.looked = slices.Replace(n.looked, i, i+1, parts...)
			n.lookAgain = time.Time{}
			return
		}
	}
}

// toLook returns the last events of a range, at most so many, that are to be looked at:
// the range is empty if none is.
func (n *newest) toLook(within span, most uint64) span {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, done := range slices.Backward(n.looked) {
		switch {
		case done.has(within.To):
			within.To = done.From - 1
		case done.To < within.To:
			within.From = max(within.From, done.To+1)
		}
	}
	within.From = max(within.From, saturatingSub(within.To+1, most))
	return within
}

// noteLooked notes that none of some events is free any more.
func (n *newest) noteLooked(r span) {
	if r.To < r.From {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	at := 0
	for at < len(n.looked) && n.looked[at].To+1 < r.From {
		at++
	}
	end := at
	for end < len(n.looked) && n.looked[end].From <= r.To+1 {
		r.From, r.To = min(r.From, n.looked[end].From), max(r.To, n.looked[end].To)
		end++
	}
	n.looked = slices.Replace(n.looked, at, end, r)
	if len(n.looked) > maxLooked {
		n.looked = n.looked[1:]
	}
}

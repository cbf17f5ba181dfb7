package dispatch

import (
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// The constants of classes.
const (
	maxClasses = 64               // that are remembered; others are not told apart
	muteFor    = 3 * time.Second  // without a success, a class may be in trouble
	muteRow    = 3                // failures without an answer that say that it is
	hangs      = time.Second      // an attempt without an answer that lasted so long has hung
	firstDefer = 5 * time.Second  // an event of such a class waits at least so long,
	deferEvery = time.Second / 20 // and each one after the other,
	longestPut = 10 * time.Minute // but no longer than this
)

// classes keeps the events of one kind from taking all attempts at once while the
// destination does not answer them: a forward may send events of different types to
// different upstreams, and one of those may be silent. What it sends by cannot be
// known, but the type and the status are what a config most likely looks at. As long
// as events of another class are taken, a class without a success gets only a part
// of the attempts at once, and its other events wait in the inbox.
//
// It is a plain state machine, see hold.
type classes struct {
	known map[string]*class
	next  time.Time // when the event is due that was put off last
}

type class struct {
	running int
	row     int       // attempts without an answer since the last success
	success time.Time // the last; zero if there was none
	alone   time.Time // when it hung last while another class was well
	busy    time.Time // since when there were always attempts being made
	seen    time.Time
}

// maxType is how much of a type, in bytes, tells a class from another.
const maxType = 64

// classOf returns the class of an event.
func classOf(e *inbox.Event) string {
	return e.Type[:min(len(e.Type), maxType)] + " " + e.Status.String()
}

// of returns the class of that name, nil if there are too many.
func (c *classes) of(name string, now time.Time) *class {
	if c.known == nil {
		c.known = make(map[string]*class)
	}
	if found := c.known[name]; found != nil {
		found.seen = now
		return found
	}
	if len(c.known) >= maxClasses && !c.forgetOne() {
		return nil
	}
	found := &class{seen: now}
	c.known[name] = found
	return found
}

// forgetOne forgets the class that was seen least lately of those of which no
// attempt is being made, and reports whether there was one.
func (c *classes) forgetOne() bool {
	oldest := ""
	for name, each := range c.known {
		if each.running == 0 && (oldest == "" || each.seen.Before(c.known[oldest].seen)) {
			oldest = name
		}
	}
	delete(c.known, oldest)
	return oldest != ""
}

// begin notes that an attempt begins. If the class has as many as it may have, it
// returns false and when the event is due again.
func (c *classes) begin(name string, limit int, now time.Time) (due time.Time, ok bool) {
	k := c.of(name, now)
	if k == nil {
		return time.Time{}, true
	}
	if most, bounded := k.most(limit, now); bounded && k.running >= most && c.othersWell(k, now) {
		return c.putOff(now), false
	}
	k.add(now)
	return time.Time{}, true
}

// probe notes that a probe begins, which the hold has permitted.
func (c *classes) probe(name string, now time.Time) {
	if k := c.of(name, now); k != nil {
		k.add(now)
	}
}

// add counts an attempt that begins.
func (k *class) add(now time.Time) {
	if k.running++; k.running == 1 {
		k.busy = now
	}
}

// most returns how many attempts at once a class may have that may be in trouble.
func (k *class) most(limit int, now time.Time) (most int, bounded bool) {
	switch {
	case !k.success.IsZero() && now.Sub(k.success) < muteFor:
		return 0, false
	case k.row >= muteRow:
		return max(1, limit/4), true
	case k.running >= limit/2 && now.Sub(k.busy) >= muteFor:
		return limit / 4 * 3, limit >= 4
	default:
		return 0, false
	}
}

// othersWell reports whether events of another class were taken lately. If attempts of
// the class have hung, nothing else may have been tried since they began, so it is asked
// how the others were then.
func (c *classes) othersWell(k *class, now time.Time) bool {
	if !k.alone.IsZero() && now.Sub(k.alone) < quiet {
		return true
	}
	for _, other := range c.known {
		if other != k && other.taken(now) {
			return true
		}
	}
	return false
}

// taken reports whether an event of the class was taken shortly before that time, or
// after it.
func (k *class) taken(at time.Time) bool {
	return !k.success.IsZero() && at.Sub(k.success) < quiet
}

// hung reports whether an attempt that got no answer says something of its class only,
// and nothing of the destination: it has hung, and another class was well when it began
// and has not failed since.
func (c *classes) hung(name string, began, now time.Time) bool {
	k := c.known[name]
	if k == nil || now.Sub(began) < hangs {
		return false
	}
	for _, other := range c.known {
		if other != k && other.row == 0 && other.taken(began) {
			k.alone = now
			return true
		}
	}
	return false
}

// putOff returns when an event is due again that has to wait.
func (c *classes) putOff(now time.Time) time.Time {
	c.next = later(now.Add(firstDefer), c.next.Add(deferEvery))
	if c.next.After(now.Add(longestPut)) {
		c.next = now.Add(firstDefer)
	}
	return c.next
}

// end notes what an attempt brought.
func (c *classes) end(name string, r *Result, now time.Time) {
	k := c.known[name]
	if k == nil || k.running == 0 {
		return // it was not told apart when it began
	}
	k.running--
	switch {
	case r.kind() == cancelled:
	case r.silent():
		k.row++
	default:
		k.row, k.success = 0, now
	}
}

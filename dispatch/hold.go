package dispatch

import (
	"fmt"
	"slices"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/clip"
)

// The limits of a hold.
const (
	runLength     = 5                       // failures in a row that hold the destination,
	runTasks      = 3                       // if they are of that many tasks, or one found it unreachable
	firstPause    = time.Second             // doubles with each failed probe
	longestPause  = time.Minute             // unless the destination asks for more
	spared        = 2 * time.Second         // pauses may grow to this, however short the waits of one event are
	maxPast       = 64                      // past holds remembered for the age of events
	maxDistrusted = 16                      // tasks remembered whose Retry-After is not obeyed
	maxAside      = time.Second             // how long a failed probe's event lets others go first
	maxReason     = 256                     // bytes of a hold's reason
	maxProbes     = 2                       // one, and one beside it or from before a change of settings
	longestNew    = 1500 * time.Millisecond // the longest pause of events that were never tried; else a quarter of it
)

// hold decides which attempts may be made: it tracks the state of the destination,
// and a hold by hand. It is a plain state machine: the time is passed to every
// method, and calls must not be concurrent. Its part for a hold by hand is in
// pause.go, that for the reports of other gateways in peer.go, that for the age of
// events in age.go.
type hold struct {
	max    time.Duration  // longest wait of an event
	spared time.Duration  // pauses may be longer than max, up to this
	random func() float64 // in [0,1)

	// era counts the ends of holds, the beginnings of those by hand and the changes
	// of settings. The result of an attempt that began in an earlier era says nothing
	// about the destination as it is now.
	era     uint64
	healthy bool // it has answered well at least once since the dispatcher began
	load    pressure

	held    bool
	askedBy string // the task whose Retry-After the hold obeys; "" for none
	reason  string // of the last failed attempt, or the last report of a peer
	since   time.Time
	until   time.Time // end of the pause: then one probe may be made
	untried time.Time // when an event that was never tried may be that probe; zero for no sooner
	failed  int       // failed probes of this hold
	probing bool      // a probe of this era is under way
	beside  bool      // and another one beside it
	probes  int       // probes under way, including those of earlier eras
	probed  time.Time // when the last probe began
	judged  time.Time // when a probe has failed last

	fromPeer    bool      // only a peer has found the trouble so far
	peerLimit   time.Time // the pause's latest end by peers' reports; zero before the first report
	doubtsPeers bool      // a probe of ours succeeded although peers reported trouble

	hand       byHand // may coexist with the destination's own hold, and outranks it
	past       []span // times in which deliveries were held, in order, without overlaps
	distrusted []string
}

// ticket permits one attempt.
type ticket struct {
	era   uint64
	began time.Time
	probe bool
	first bool // of its event
	alone bool // it got no answer, which says something of its class only
}

// effect is what follows from the result of an attempt.
type effect struct {
	release bool          // the event is released, and the attempt does not count
	due     time.Time     // when a released event is due; zero: as the schedule says
	atOnce  bool          // a released event is due at once
	hurry   bool          // a probe may be made sooner than announced
	longer  bool          // our own attempt has prolonged the hold
	began   bool          // a hold began
	ended   bool          // a hold ended
	lasted  time.Duration // how long the ended hold lasted
}

// enter asks for permission to make an attempt at an event, which may be one that
// was never tried. During a hold by hand it is refused. While the destination is
// held it is refused too, except for one probe at a time after each pause, and one
// beside it if it lasts long.
func (h *hold) enter(untried bool, now time.Time) (ticket, bool) {
	if h.hand.set() {
		return ticket{}, false
	}
	if !h.held {
		return ticket{era: h.era, began: now}, true
	}
	switch {
	case now.Before(h.until) && (!untried || !h.newMayProbe(now)):
		return ticket{}, false
	case !h.probeFree() && (!untried || !h.mayProbeBeside(now)):
		return ticket{}, false
	}
	h.beside = h.probing
	h.probing = true
	h.probes++
	h.probed = now
	return ticket{era: h.era, began: now, probe: true}, true
}

// newMayProbe reports whether an event that was never tried may be the probe
// though the pause is not over. It may be one that the destination takes, and so it
// does not wait as long as those that have failed.
func (h *hold) newMayProbe(now time.Time) bool {
	return !h.untried.IsZero() && !now.Before(h.untried)
}

// probeFree reports whether a probe may be made once the pause is over.
func (h *hold) probeFree() bool { return !h.probing && h.probes < maxProbes }

// besideFrom returns when an event that was never tried may be a probe although one is
// under way: that one may hang for as long as an attempt may take. It returns zero if
// none may.
func (h *hold) besideFrom() time.Time {
	if !h.probing || h.beside || h.probes >= maxProbes {
		return time.Time{}
	}
	over := h.until
	if !h.untried.IsZero() {
		over = earlier(over, h.untried)
	}
	return later(over, h.probed.Add(longestNew))
}

func (h *hold) mayProbeBeside(now time.Time) bool {
	from := h.besideFrom()
	return !from.IsZero() && !now.Before(from)
}

// leave returns a ticket with the result of its attempt, at an event of that task.
func (h *hold) leave(t ticket, task string, r *Result, now time.Time) effect {
	current := t.era == h.era
	if t.probe {
		h.probes--
		if current {
			h.probing, h.beside = h.beside, false
		}
		// What began before another probe failed is no more than an attempt of before.
		t.probe = !t.began.Before(h.judged)
	}
	switch k := r.kind(); {
	case k == cancelled:
		return effect{}
	case k == trouble && !current:
		return h.stale(r, now)
	case k == trouble && h.held:
		return h.stillInTrouble(t, task, r, now)
	case k == trouble:
		return h.inTrouble(t, task, r, now)
	case !current:
		return effect{}
	default:
		return h.answered(t, task, k, now)
	}
}

// stale judges the failure of an attempt during which a hold ended, one by hand
// began, or the settings changed. It does not count, neither for the event nor for
// the destination. During a hold by hand the event is due as soon as that ends,
// whatever Retry-After a destination under maintenance sends.
func (h *hold) stale(r *Result, now time.Time) effect {
	if h.hand.set() {
		return effect{release: true, atOnce: true}
	}
	var due time.Time // as the schedule says
	if h.held {
		due = h.until
	}
	return effect{release: true, due: h.notBefore(due, r, now)}
}

// inTrouble judges a failure while the destination is not held.
func (h *hold) inTrouble(t ticket, task string, r *Result, now time.Time) effect {
	h.load.failed(t, task, r)
	if h.believes(task, r, now) {
		h.begin(now, r.request())
		h.obey(task, r, now)
		return effect{release: true, due: h.aside(now), began: true}
	}
	if !h.load.condemns(now) {
		return effect{}
	}
	h.begin(now, fmt.Sprintf("%d failures in a row, the last: %s", h.load.row, r.failure()))
	h.rest(now)
	return effect{began: true}
}

// stillInTrouble judges a failure while the destination is held.
func (h *hold) stillInTrouble(t ticket, task string, r *Result, now time.Time) effect {
	h.load.failed(t, task, r)
	asks := h.believes(task, r, now)
	if asks {
		h.obey(task, r, now)
		h.found(r.request())
	}
	if !t.probe {
		return effect{release: true, due: h.notBefore(h.until, r, now), longer: asks}
	}
	h.failed++
	h.judged = now
	h.peerLimit = time.Time{}
	if !asks {
		h.rest(now)
		h.found("the last probe failed: " + r.failure())
	}
	return effect{release: true, due: h.notBefore(h.aside(now), r, now), longer: true}
}

// believes reports whether the result asks for a pause of the destination, and
// not just of the one event: nothing was taken lately, or another task has met the
// same since. A task whose pause others then showed to be needless is not believed
// again: it may not hold them up every time it comes.
func (h *hold) believes(task string, r *Result, now time.Time) bool {
	return r.asksForPause() && (h.load.asked() || !h.load.well(now)) && !slices.Contains(h.distrusted, task)
}

// obey lets the pause last as long as the result asks for. As long as it is only
// one task's, an event that was never tried may find out whether others meet it too.
func (h *hold) obey(task string, r *Result, now time.Time) {
	h.askedBy = task
	h.until = h.notBefore(h.until, r, now)
	h.untried = time.Time{}
	if !h.load.asked() {
		h.untried = now.Add(min(h.until.Sub(now), longestNew))
	}
}

// request describes an answer that asks for a pause.
func (r *Result) request() string {
	return fmt.Sprintf("the upstream answered %d with Retry-After %s", r.Status, r.RetryAfter)
}

// notBefore returns due, or the time that the result's Retry-After asks for if
// that is later.
func (h *hold) notBefore(due time.Time, r *Result, now time.Time) time.Time {
	if r.RetryAfter <= 0 {
		return due
	}
	if asked := now.Add(min(r.RetryAfter, h.longest())); asked.After(due) {
		return asked
	}
	return due
}

// answered judges an answer of a destination that is well.
func (h *hold) answered(t ticket, task string, k kind, now time.Time) effect {
	if !h.held {
		h.healthy = true
		h.load.taken(now)
		return effect{}
	}
	// An attempt that began before the hold, or before the last probe failed, may have
	// been answered before the trouble. So only its success ends the hold, and not if the destination itself
	// asked for the pause, as it may have at a peer.
	if !t.probe && (h.askedBy != "" || h.fromPeer || k != taken) {
		return effect{}
	}
	h.doubtsPeers = h.fromPeer
	h.end(task, now)
	return effect{ended: true, lasted: now.Sub(h.since)}
}

func (h *hold) begin(now time.Time, reason string) {
	h.held, h.askedBy, h.reason, h.since, h.failed = true, "", clip.Text(reason, maxReason), now, 0
	h.until, h.untried = now, time.Time{}
	h.noProbe()
	h.fromPeer, h.peerLimit, h.doubtsPeers = false, time.Time{}, false
}

// end ends the hold. What holding describes stays, for the Observer.
func (h *hold) end(task string, now time.Time) {
	if h.askedBy != "" && h.askedBy != task {
		h.distrust(h.askedBy)
	}
	h.remember(h.span(now))
	h.healthy = true
	h.lift()
	h.load.taken(now)
}

func (h *hold) lift() {
	h.held, h.askedBy = false, ""
	h.noProbe()
	h.era++
	h.load.recover()
}

// noProbe notes that those under way, if any, are of an earlier era.
func (h *hold) noProbe() { h.probing, h.beside = false, false }

// holding describes the destination's hold, or its last one.
func (h *hold) holding() Holding {
	return Holding{FromPeer: h.fromPeer, Since: h.since, Until: h.until, Reason: h.reason}
}

// renew is called for new settings, which may lead to another destination, and at
// the end of a hold by hand: the destination is tried at once, and results of
// attempts under way no longer count.
func (h *hold) renew(longest time.Duration, now time.Time) {
	h.max = longest
	h.era++
	h.load.forgive()
	h.distrusted = h.distrusted[:0]
	h.noProbe()
	h.failed = 0
	h.peerLimit, h.doubtsPeers = time.Time{}, false
	if h.held {
		h.until = now
	}
}

// longest returns how long a pause may be. It is for the destination, and not for one
// event: that many events have short waits must not mean that it gets many probes.
func (h *hold) longest() time.Duration { return max(h.max, h.spared) }

// rest begins the next pause.
func (h *hold) rest(now time.Time) {
	pause := h.pause()
	h.until = now.Add(pause)
	h.untried = now.Add(min(pause/4, longestNew))
}

// pause returns how long to wait for the next probe: doubling, with equal jitter.
func (h *hold) pause() time.Duration {
	longest := min(longestPause, h.longest())
	if h.failed < 6 { // 2^6 s is beyond longestPause
		longest = min(longest, firstPause<<h.failed)
	}
	half := longest / 2
	return half + time.Duration(h.random()*float64(longest-half))
}

// aside returns when the event whose attempt failed is due again: a little after the
// next probe, so that another event, if one is due, becomes that probe. Otherwise
// one event that the destination cannot process would keep it held.
func (h *hold) aside(now time.Time) time.Time {
	return h.until.Add(min(h.until.Sub(now)/4, maxAside))
}

func (h *hold) distrust(task string) {
	if slices.Contains(h.distrusted, task) {
		return
	}
	if len(h.distrusted) == maxDistrusted {
		h.distrusted = slices.Delete(h.distrusted, 0, 1)
	}
	h.distrusted = append(h.distrusted, task)
}

package dispatch

import (
	"fmt"
	"slices"
	"time"
)

// The limits of a hold.
const (
	runLength    = 5               // trouble this many times in a row holds the destination,
	runTasks     = 3               // if it met this many tasks or found it unreachable
	firstPause   = time.Second     // doubles with each failed probe
	longestPause = time.Minute     // unless the destination asks for more
	maxPast      = 64              // spans kept for the age of events
	maxAskers    = 16              // tasks remembered for asking alone
	maxAside     = time.Second     // how long a failed probe's event stands behind the others
	maxReason    = 256             // bytes of a hold's reason
	maxProbes    = 2               // one, and one of before a change of settings
	longestNew   = 5 * time.Second // pause before an event that was never tried may be the probe
)

// hold knows how the destination is and whether there is a hold by hand, and
// says who may go there. It is a plain state machine: every method is told the
// time, and none may be called by two goroutines at once. Its part for a hold by
// hand is in pause.go, what other gateways find in peer.go, the age of events in
// age.go.
type hold struct {
	max    time.Duration  // longest pause that a destination may ask for
	random func() float64 // in [0,1)

	// era counts the ends of holds, the beginnings of those by hand and the
	// changes of settings. What an attempt of an earlier era brings says nothing
	// of the destination as it is now.
	era     uint64
	healthy bool // it has answered, without trouble, since the dispatcher began
	load    pressure

	held    bool
	asked   string // the task whose Retry-After holds it; "" for a run
	reason  string // what the last try brought, or what another gateway has told last
	since   time.Time
	until   time.Time // end of the pause: then one probe may go
	untried time.Time // when an event that was never tried may be that probe; zero for no sooner
	failed  int       // probes that failed in this hold
	probing bool      // a probe of this era is under way
	probes  int       // probes under way, of earlier eras too

	fromPeer    bool      // the hold is another gateway's finding, not yet ours
	latest      time.Time // until then others may let the pause last; zero until one does
	doubtsPeers bool      // of what others find: a probe of ours found the opposite

	hand   byHand // may be beside the destination's own, and outranks it
	past   []span // times in which deliveries were held, in order and apart
	askers []string
}

// ticket is the permission to make one attempt.
type ticket struct {
	era   uint64
	probe bool
}

// effect is what an attempt's result brings about.
type effect struct {
	release bool          // the event goes back unspent,
	due     time.Time     // due then; zero means as the schedule says,
	atOnce  bool          // unless it is due at once
	hurry   bool          // a probe may go sooner than it was said
	longer  bool          // the hold goes on, by our own finding
	began   bool          // the hold began
	ended   bool          // the hold ended,
	lasted  time.Duration // after that time
}

// enter asks for permission to make an attempt at an event, which may be one that
// was never tried before. During a hold by hand there is none. While the
// destination is held there is none either, but for one probe at a time after each
// pause.
func (h *hold) enter(untried bool, now time.Time) (ticket, bool) {
	if h.hand.set() {
		return ticket{}, false
	}
	if !h.held {
		return ticket{era: h.era}, true
	}
	if !h.probeFree() || now.Before(h.until) && !(untried && h.newMayProbe(now)) {
		return ticket{}, false
	}
	h.probing = true
	h.probes++
	return ticket{era: h.era, probe: true}, true
}

// newMayProbe reports whether an event that was never tried may be the probe
// though the pause is not over. It may be one that the destination takes, and so it
// does not wait as long as those that have failed.
func (h *hold) newMayProbe(now time.Time) bool {
	return !h.untried.IsZero() && !now.Before(h.untried)
}

// probeFree reports whether a probe may go once the pause is over.
func (h *hold) probeFree() bool { return !h.probing && h.probes < maxProbes }

// leave gives a ticket back with what the attempt at an event of that task brought.
func (h *hold) leave(t ticket, task string, r *Result, now time.Time) effect {
	current := t.era == h.era
	if t.probe {
		h.probes--
		h.probing = h.probing && !current
	}
	switch k := r.kind(); {
	case k == cancelled:
		return effect{}
	case k == trouble && !current:
		return h.stale(r, now)
	case k == trouble && h.held:
		return h.stillInTrouble(t, task, r, now)
	case k == trouble:
		return h.inTrouble(task, r, now)
	case !current:
		return effect{}
	default:
		return h.answered(t, task, k, now)
	}
}

// stale judges trouble met by an attempt that was under way through the end of
// a hold, the beginning of one by hand or a change of settings: it costs
// nothing and counts for nothing. During a hold by hand its event waits for no
// more than the end of that, whatever a destination under maintenance asks for.
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

// inTrouble judges trouble while the destination is not held.
func (h *hold) inTrouble(task string, r *Result, now time.Time) effect {
	h.load.failed(task, r)
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

// stillInTrouble judges trouble while the destination is held.
func (h *hold) stillInTrouble(t ticket, task string, r *Result, now time.Time) effect {
	h.load.failed(task, r)
	asks := h.believes(task, r, now)
	if asks {
		h.obey(task, r, now)
		h.found(r.request())
	}
	if !t.probe {
		return effect{release: true, due: h.notBefore(h.until, r, now), longer: asks}
	}
	h.failed++
	h.latest = time.Time{}
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
	return r.asksForPause() && (h.load.asked() || !h.load.well(now)) && !slices.Contains(h.askers, task)
}

// obey lets the pause last as long as the result asks for. As long as it is only
// one task's, an event that was never tried may find out whether others meet it too.
func (h *hold) obey(task string, r *Result, now time.Time) {
	h.asked = task
	h.until = h.notBefore(h.until, r, now)
	h.untried = time.Time{}
	if !h.load.asked() {
		h.untried = now.Add(min(h.until.Sub(now), longestNew))
	}
}

// request says what an answer that asks for a pause has said.
func (r *Result) request() string {
	return fmt.Sprintf("the upstream answered %d with Retry-After %s", r.Status, r.RetryAfter)
}

// notBefore returns due, or the time that the result's Retry-After asks for if
// that is later.
func (h *hold) notBefore(due time.Time, r *Result, now time.Time) time.Time {
	if r.RetryAfter <= 0 {
		return due
	}
	if asked := now.Add(min(r.RetryAfter, h.max)); asked.After(due) {
		return asked
	}
	return due
}

// answered judges an answer that is no trouble.
func (h *hold) answered(t ticket, task string, k kind, now time.Time) effect {
	if !h.held {
		h.healthy = true
		h.load.taken(now)
		return effect{}
	}
	// What began before the hold may have been answered before the trouble, so
	// only a success counts, and not against the destination's own word, which
	// may be what another gateway has met.
	if !t.probe && (h.asked != "" || h.fromPeer || k != taken) {
		return effect{}
	}
	h.doubtsPeers = h.fromPeer
	h.end(task, now)
	return effect{ended: true, lasted: now.Sub(h.since)}
}

func (h *hold) begin(now time.Time, reason string) {
	h.held, h.asked, h.reason, h.since, h.failed = true, "", cut(reason, maxReason), now, 0
	h.until, h.untried = now, time.Time{}
	h.probing = false
	h.fromPeer, h.latest, h.doubtsPeers = false, time.Time{}, false
}

// end leaves what holding describes as it is, for those who are told.
func (h *hold) end(task string, now time.Time) {
	if h.asked != "" && h.asked != task {
		h.distrust(h.asked)
	}
	h.remember(h.span(now))
	h.healthy = true
	h.over()
	h.load.taken(now)
}

func (h *hold) over() {
	h.held, h.asked = false, ""
	h.probing = false
	h.era++
	h.load.recover()
}

// holding describes the destination's hold, or the last one that it was in.
func (h *hold) holding() Holding {
	return Holding{FromPeer: h.fromPeer, Since: h.since, Until: h.until, Reason: h.reason}
}

// renew brings new settings, behind which may be another destination, or the
// end of a hold by hand: the destination is tried at once, and what is under
// way to the old one has no say any more.
func (h *hold) renew(longest time.Duration, now time.Time) {
	h.max = longest
	h.era++
	h.load.forgive()
	h.askers = h.askers[:0]
	h.probing = false
	h.failed = 0
	h.latest, h.doubtsPeers = time.Time{}, false
	if h.held {
		h.until = now
	}
}

// rest begins the next pause.
func (h *hold) rest(now time.Time) {
	pause := h.pause()
	h.until = now.Add(pause)
	h.untried = now.Add(min(pause, longestNew))
}

// pause returns how long to wait for the next probe: doubling, with equal jitter.
func (h *hold) pause() time.Duration {
	longest := min(longestPause, h.max)
	if h.failed < 6 { // 2^6 s is beyond longestPause
		longest = min(longest, firstPause<<h.failed)
	}
	half := longest / 2
	return half + time.Duration(h.random()*float64(longest-half))
}

// aside returns when the event that met the trouble may come again: a little
// after the next probe, so that another event, if one is due, is that probe.
// Otherwise one event that the destination cannot digest would keep it held.
func (h *hold) aside(now time.Time) time.Time {
	return h.until.Add(min(h.until.Sub(now)/4, maxAside))
}

func (h *hold) distrust(task string) {
	if slices.Contains(h.askers, task) {
		return
	}
	if len(h.askers) == maxAskers {
		h.askers = slices.Delete(h.askers, 0, 1)
	}
	h.askers = append(h.askers, task)
}

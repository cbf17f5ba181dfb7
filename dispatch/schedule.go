package dispatch

import (
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// kind is what a result means for the event and for its destination.
type kind uint8

const (
	taken     kind = iota + 1 // 2xx: delivered
	gone                      // 410: the upstream will never take it
	refused                   // any other answer of a destination that is well
	trouble                   // the destination is not well: no answer, 5xx or 429
	cancelled                 // the dispatcher itself ended the attempt
)

func (r *Result) kind() kind {
	switch {
	case r.Cancelled:
		return cancelled
	case r.Unreachable, r.Status < 100, r.Status >= 500, r.Status == http.StatusTooManyRequests:
		return trouble
	case r.Status >= 200 && r.Status <= 299:
		return taken
	case r.Status == http.StatusGone:
		return gone
	default:
		return refused
	}
}

// asksForPause reports whether the destination itself, not just this event,
// is to be left alone for RetryAfter.
func (r *Result) asksForPause() bool {
	return r.RetryAfter > 0 &&
		(r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable)
}

// ownFault reports whether the trouble is first of all the event's own: the
// destination has answered, and not that it is overloaded or cannot be reached.
func (r *Result) ownFault() bool {
	if r.silent() || r.Status < 500 {
		return false
	}
	switch r.Status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return false
	}
	return true
}

// silent reports whether there was no usable answer.
func (r *Result) silent() bool { return r.Unreachable || r.Status < 100 }

// failure returns why the attempt failed; never empty.
func (r *Result) failure() string {
	switch {
	case r.Reason != "":
		return r.Reason
	case r.Status == 0:
		return "no answer from the upstream"
	case r.Unreachable:
		return fmt.Sprintf("no usable answer from the upstream (status %d)", r.Status)
	default:
		return fmt.Sprintf("the upstream answered %d", r.Status)
	}
}

// shortestWait is the least time between two attempts at an event, where the
// schedule is not finer than that itself.
const shortestWait = 100 * time.Millisecond

// backoff returns how long to wait after the attempt of that number, 1 for the
// first: random, from 0 up to but not including 1, spread over the whole of
// min(Max, First·2^(attempt-1)), so that events which failed together do not
// come back together.
func (s *Settings) backoff(attempt int, random float64) time.Duration {
	ceiling := s.Max
	if shift := max(attempt-1, 0); shift < 63 && s.First <= s.Max>>shift {
		ceiling = s.First << shift
	}
	spread := time.Duration((1 - random) * float64(ceiling))
	return min(max(spread, s.floor(ceiling)), ceiling)
}

func (s *Settings) floor(ceiling time.Duration) time.Duration {
	return max(min(shortestWait, ceiling/10), 1)
}

// retryIn returns how long to wait before the next attempt at an event that
// has lived so long. What the upstream asks for is obeyed up to Max. Otherwise
// an event's last attempt is not put off beyond the age at which it is dead.
func (s *Settings) retryIn(attempt int, r *Result, lived time.Duration, random float64) time.Duration {
	if r.RetryAfter > 0 {
		return max(min(r.RetryAfter, s.Max), s.floor(s.First))
	}
	wait := s.backoff(attempt, random)
	if left := s.GiveUp - max(lived, 0); left > 0 {
		wait = min(wait, max(left, s.floor(s.First)))
	}
	return wait
}

// minAttempts is the number of attempts before age alone is an event's end. Its
// age may be a mistake: the clock stood in 1970 when its callback came, or the
// gateway was off for days.
const minAttempts = 5

// scheduled returns how long the waits after so many attempts are on average.
func (s *Settings) scheduled(attempts int) time.Duration {
	var sum time.Duration
	for ceiling := s.First; attempts > 0 && ceiling < s.Max; attempts-- {
		sum += ceiling / 2
		if ceiling > s.Max/2 {
			ceiling = s.Max
		} else {
			ceiling *= 2
		}
	}
	each := int64(max(s.Max/2, 1))
	return sum + time.Duration(each*min(int64(max(attempts, 0)), (math.MaxInt64-int64(sum))/each))
}

// old reports whether an event is at its end by its age, after an attempt of
// that number. One that arrived in the future, by a clock that was ahead, has no
// age yet: it is at its end once it has had the attempts for which there is
// time until then.
func (s *Settings) old(attempt int, lived time.Duration) bool {
	if lived < 0 {
		lived = s.scheduled(attempt - 1)
	}
	return attempt >= minAttempts && lived >= s.GiveUp
}

// decide returns the verdict on an event that has lived so long, and for a
// Retry how long to wait. mortal says whether this failure may end the event.
func (s *Settings) decide(attempt int, r *Result, lived time.Duration, mortal bool, random float64) (inbox.Verdict, time.Duration) {
	switch k := r.kind(); {
	case k == taken:
		return inbox.Deliver, 0
	case k == cancelled:
		return inbox.Release, 0
	case k == gone, mortal && s.old(attempt, lived):
		return inbox.GiveUp, 0
	default:
		return inbox.Retry, s.retryIn(attempt, r, lived, random)
	}
}

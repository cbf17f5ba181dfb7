package dispatch

import (
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// kind is what a result means for the event and its destination.
type kind uint8

const (
	taken     kind = iota + 1 // 2xx: delivered
	gone                      // 410: the upstream will never take it
	refused                   // any other answer of a destination that works
	trouble                   // the destination is in trouble: no answer, 5xx or 429
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

// shortestWait is the least time between two attempts at an event, unless the
// settings ask for a finer schedule.
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

// retryIn returns how long to wait before the next attempt at an event of that age.
// A Retry-After is obeyed up to Max. Otherwise the event's last attempt is not put
// off beyond the age at which it is dead.
func (s *Settings) retryIn(attempt int, r *Result, age time.Duration, random float64) time.Duration {
	if r.RetryAfter > 0 {
		return max(min(r.RetryAfter, s.Max), s.floor(s.First))
	}
	wait := s.backoff(attempt, random)
	if left := s.GiveUp - max(age, 0); left > 0 {
		wait = min(wait, max(left, s.floor(s.First)))
	}
	return wait
}

// minAttempts is how many attempts an event gets whatever its age. The age may be
// misleading: the clock stood in 1970 when the callback arrived, or the gateway was
// off for days.
const minAttempts = 5

// scheduled returns the average length of all waits after that many attempts.
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

// tooOld reports whether an event is to be given up for its age, after the attempt of
// that number. If the clock was ahead when the event arrived, its age is negative and
// means nothing: the average length of its waits so far stands in for it.
func (s *Settings) tooOld(attempt int, age time.Duration) bool {
	if age < 0 {
		age = s.scheduled(attempt - 1)
	}
	return attempt >= minAttempts && age >= s.GiveUp
}

// decide returns the verdict on an event of that age, and for a Retry how long to
// wait. mayGiveUp tells whether this failure may be the event's last.
func (s *Settings) decide(attempt int, r *Result, age time.Duration, mayGiveUp bool, random float64) (inbox.Verdict, time.Duration) {
	switch k := r.kind(); {
	case k == taken:
		return inbox.Deliver, 0
	case k == cancelled:
		return inbox.Release, 0
	case k == gone, mayGiveUp && s.tooOld(attempt, age):
		return inbox.GiveUp, 0
	default:
		return inbox.Retry, s.retryIn(attempt, r, age, random)
	}
}

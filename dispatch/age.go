package dispatch

import (
	"slices"
	"time"
)

// span is a time in which deliveries were held.
type span struct{ from, to time.Time }

// span returns the part of the present hold that has passed. If the destination has
// never answered, it has no beginning: it may be the rest of an outage that began
// under an earlier dispatcher.
func (h *hold) span(now time.Time) span {
	if !h.healthy {
		return span{to: now}
	}
	return span{from: h.since, to: now}
}

// remember keeps a span. Spans that touch are merged, so that past stays in order
// and without overlaps. Beyond maxPast the two oldest are merged, gap included, which
// only makes events younger.
func (h *hold) remember(s span) {
	if !s.to.After(s.from) {
		return
	}
	h.past = slices.DeleteFunc(h.past, func(p span) bool {
		apart := p.to.Before(s.from) || p.from.After(s.to)
		if !apart {
			s = span{from: earlier(p.from, s.from), to: later(p.to, s.to)}
		}
		return !apart
	})
	h.past = append(h.past, s)
	sortSpans(h.past)
	if len(h.past) > maxPast {
		h.past[1].from = h.past[0].from
		h.past = slices.Delete(h.past, 0, 1)
	}
}

// age returns the age of a delivery that began then, without the time in which deliveries
// were held. Where holds overlap, their time is left out once.
func (h *hold) age(began, now time.Time) time.Duration {
	var room [maxPast + 2]span
	spans := append(room[:0], h.past...)
	if h.held {
		spans = append(spans, h.span(now))
	}
	if h.hand.set() {
		spans = append(spans, h.hand.span(now))
	}
	sortSpans(spans)

	age, from := now.Sub(began), began
	for _, s := range spans {
		from = later(from, s.from)
		if s.to.After(from) {
			age -= s.to.Sub(from)
			from = s.to
		}
	}
	return age
}

func sortSpans(spans []span) {
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

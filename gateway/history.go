package gateway

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/history"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// What is counted of callbacks, and of deliveries.
const (
	callbackAccepted = iota
	callbackDuplicate
	callbackRefused
	callbackInvalid
	callbackUnavailable
	callbackKinds

	deliveryDelivered = iota - callbackKinds - 1
	deliveryRetried
	deliveryDead
	deliveryKinds
)

// maxHistories bounds for how many destinations there is a history. Of more, that which
// was delivered to longest ago is forgotten.
const maxHistories = 2 * inbox.MaxDestinations

// past is what has happened lately, for charts.
type past struct {
	now       func() time.Time
	began     time.Time
	callbacks *history.Recorder

	recall   func() // guarded, like recalled, by Journal.mu
	recalled bool

	mu           sync.Mutex
	destinations map[string]*history.Recorder
	complete     bool      // the inbox has been read
	knownFrom    time.Time // how far back; zero if as far as there was anything to read
}

func newPast(now func() time.Time) *past {
	return &past{
		now: now, began: now(), callbacks: history.New(callbackKinds, now),
		destinations: make(map[string]*history.Recorder),
	}
}

// answered counts what became of a callback, and how long its answer took.
func (p *past) answered(o Outcome, took time.Duration) {
	switch o {
	case Accepted:
		p.callbacks.Took(callbackAccepted, took)
	case Duplicate:
		p.callbacks.Took(callbackDuplicate, took)
	case Refused:
		p.callbacks.Add(callbackRefused)
	case Invalid, NotJSON, MediaType, TooLarge:
		p.callbacks.Add(callbackInvalid)
	case Unavailable:
		p.callbacks.Add(callbackUnavailable)
	case EarlyData, Method, Broken, Timeout, NotKept:
	}
}

// attempted counts an attempt at a destination.
func (p *past) attempted(destination string, v inbox.Verdict, age time.Duration) {
	switch v {
	case inbox.Deliver:
		p.of(destination).Took(deliveryDelivered, age)
	case inbox.Retry:
		p.of(destination).Add(deliveryRetried)
	case inbox.GiveUp:
		p.of(destination).Add(deliveryDead)
	case inbox.Release:
	}
}

// of returns the recorder of a destination.
func (p *past) of(destination string) *history.Recorder {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.destinations[destination]
	if r == nil {
		if len(p.destinations) >= maxHistories {
			delete(p.destinations, slices.MinFunc(slices.Collect(maps.Keys(p.destinations)), func(a, b string) int {
				return p.destinations[a].Last().Compare(p.destinations[b].Last())
			}))
		}
		r = history.New(deliveryKinds, p.now)
		p.destinations[destination] = r
	}
	return r
}

// spans are those of the package history, in the order of control.HistorySpans.
var spans = []history.Span{history.Hour, history.Day, history.Week}

// over returns what has happened within a span. Destinations of which there is nothing
// are left out, unless they are configured.
func (p *past) over(name string, configured []string) control.History {
	span := spans[max(0, slices.Index(control.HistorySpans, name))]
	counts := p.callbacks.Over(span)
	h := control.History{
		Span: control.HistorySpans[slices.Index(spans, span)], From: counts.From,
		Step: int64(span.Step() / time.Second), Started: p.began.UTC(),
		Callbacks: control.CallbackHistory{
			Accepted:    column(&counts, callbackAccepted),
			Duplicates:  column(&counts, callbackDuplicate),
			Refused:     column(&counts, callbackRefused),
			Invalid:     column(&counts, callbackInvalid),
			Unavailable: column(&counts, callbackUnavailable),
			Answer:      timesOf(&counts),
		},
		Destinations: []control.DeliveryHistory{},
	}
	p.mu.Lock()
	h.Complete = p.complete
	if p.knownFrom.After(h.From) {
		h.KnownFrom = new(p.knownFrom.UTC())
	}
	all := maps.Clone(p.destinations)
	p.mu.Unlock()
	for _, name := range configured {
		if all[name] == nil {
			all[name] = history.New(deliveryKinds, p.now)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		counts := all[name].Over(span)
		if !slices.Contains(configured, name) && slices.Max(counts.Sum) == 0 {
			continue
		}
		h.Destinations = append(h.Destinations, control.DeliveryHistory{
			Destination: name,
			Delivered:   column(&counts, deliveryDelivered),
			Retried:     column(&counts, deliveryRetried),
			Dead:        column(&counts, deliveryDead),
			Age:         timesOf(&counts),
		})
	}
	return h
}

// column returns the counts of one kind by step.
func column(c *history.Counts, kind int) []int64 {
	numbers := make([]int64, len(c.Points))
	for i := range c.Points {
		numbers[i] = c.Points[i].Counts[kind]
	}
	return numbers
}

func timesOf(c *history.Counts) control.Times {
	n := len(c.Points)
	t := control.Times{P50: make([]*float64, n), P95: make([]*float64, n), P99: make([]*float64, n)}
	for i := range c.Points {
		if took := c.Points[i].Took; took != (history.Times{}) {
			t.P50[i], t.P95[i], t.P99[i] = milliseconds(took.P50), milliseconds(took.P95), milliseconds(took.P99)
		}
	}
	if c.Took != (history.Times{}) {
		t.All = &control.Quantiles{
			P50: control.Milliseconds(c.Took.P50), P95: control.Milliseconds(c.Took.P95), P99: control.Milliseconds(c.Took.P99),
		}
	}
	return t
}

func milliseconds(d time.Duration) *float64 { return new(control.Milliseconds(d)) }

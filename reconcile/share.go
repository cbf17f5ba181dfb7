package reconcile

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

const (
	// registerEvery is the pause between two registrations.
	registerEvery = 2 * time.Second

	// countsFor is how long a registration counts here from when it began. It is shorter
	// than inbox.AskerLife: who is not registered any more has stopped asking before.
	countsFor = 5 * time.Second

	// unregisterTimeout bounds the farewell.
	unregisterTimeout = 2 * time.Second
)

// Limited is an Asker whose rate can be lowered.
type Limited interface {
	Asker

	// Limit sets how many questions a second may be put at most.
	Limit(rate float64)
}

// Share is the part of an account's rate that one of several gateways has which share an
// inbox. Together they never ask more often than the lowest of their rates: each divides
// that by their number.
//
// Each registers every two seconds, which returns who else is there. It asks only if that
// was done in the last five seconds, and never in the first five seconds after it was done
// for the first time: by then all others have either seen it or stopped. It lowers its part
// as soon as it sees more of them. It raises it when it has seen fewer for five seconds, so
// that a registration may even get lost.
//
// No two clocks are compared, only lengths of time. A part is not more than that: if a
// gateway has nothing to ask, the others do not get its part, but the tasks are shared too.
type Share struct {
	registry inbox.AskerRegistry
	account  string
	changed  func(ShareState)

	mu     sync.Mutex
	fotor  Limited        // of the last Use
	rate   float64        // as its config says
	recent []registration // those that count, oldest first
	begun  time.Time      // when the first of an unbroken series of registrations was done
	state  ShareState     // but for Open, as last told
}

// registration is one that has succeeded.
type registration struct {
	began  time.Time
	askers inbox.Askers
}

// ShareState is what is known of a Share.
type ShareState struct {
	// Open says that questions may be put.
	Open bool

	// Askers is how many share the rate, with this one; 0 if that was never known.
	Askers int

	// Rate is the part: how many questions a second may be put; 0 if it was never known.
	Rate float64

	// Reason is why the last registration has failed; nil if it has not.
	Reason error
}

// NewShare returns a Share, which does nothing before Use and Run. changed is called, one call
// at a time, when Open or Askers have changed, or when registering fails while nothing may be
// asked; it must not block.
func NewShare(registry inbox.AskerRegistry, account string, changed func(ShareState)) *Share {
	return &Share{registry: registry, account: account, changed: changed}
}

// State returns what is known.
func (s *Share) State() ShareState {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.state
	state.Open = s.open() // that may have changed since
	return state
}

// open reports whether a question may be put now. The caller has locked s.mu.
func (s *Share) open() bool {
	n := len(s.recent)
	return n > 0 && !s.recent[n-1].over() && time.Since(s.begun) >= countsFor
}

// over reports whether a registration does not count any more. In a virtual machine that was
// stopped for a while, the one or the other clock may have stood still.
func (r *registration) over() bool {
	now := time.Now()
	return max(now.Sub(r.began), now.Round(0).Sub(r.began.Round(0))) >= countsFor
}

// Use returns an Asker that asks as fotor does, but within the part of the rate, which is
// that of a config. It limits fotor until the next Use.
func (s *Share) Use(fotor Limited, rate float64) Asker {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rate, s.fotor = rate, fotor
	if s.state.Rate > 0 {
		fotor.Limit(s.state.Rate)
	}
	return sharedAsker{s, fotor}
}

// Run registers until ctx ends, and then unregisters.
func (s *Share) Run(ctx context.Context) {
	for ctx.Err() == nil {
		s.register(ctx)
		sleep.For(ctx, registerEvery)
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), unregisterTimeout)
	defer cancel()
	_ = s.registry.Unregister(bounded, s.account) // else the registration ends by itself
}

// register registers once, and divides the rate anew.
func (s *Share) register(ctx context.Context) {
	s.mu.Lock()
	asker := inbox.Asker{Account: s.account, Rate: s.rate}
	s.mu.Unlock()
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, countsFor)
	defer cancel()
	askers, err := s.registry.Register(bounded, asker)
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	before := s.state
	if err == nil {
		s.divide(registration{began, askers})
	}
	s.state.Open, s.state.Reason = s.open(), err
	after := s.state
	s.mu.Unlock()
	failing := !after.Open && after.Reason != nil && before.Reason == nil
	if failing || after.Open != before.Open || after.Askers != before.Askers {
		s.changed(after)
	}
}

// divide sets the part after a registration: that of the most askers and the lowest rate
// that were seen lately. The caller has locked s.mu.
func (s *Share) divide(r registration) {
	if n := len(s.recent); n == 0 || s.recent[n-1].over() { // others may not know of this one
		s.begun = time.Now()
	}
	s.recent = append(slices.DeleteFunc(s.recent, func(r registration) bool { return r.over() }), r)
	most, lowest := 1, r.askers.Rate
	for _, r := range s.recent {
		most, lowest = max(most, r.askers.Count), min(lowest, r.askers.Rate)
	}
	s.state.Askers, s.state.Rate = most, lowest/float64(most)
	s.fotor.Limit(s.state.Rate)
}

// sharedAsker asks within a Share.
type sharedAsker struct {
	share *Share
	fotor Limited
}

// openEvery is the pause between looks whether questions may be put.
const openEvery = 100 * time.Millisecond

// Turn implements Asker.
func (a sharedAsker) Turn(ctx context.Context) (Turn, error) {
	for {
		for !a.share.State().Open {
			if !sleep.For(ctx, openEvery) {
				return nil, ctx.Err()
			}
		}
		turn, err := a.fotor.Turn(ctx)
		if err != nil || a.share.State().Open { // else it has lapsed meanwhile
			return turn, err
		}
		turn.Unused()
	}
}

package fotorwebhook

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// tellTimeout bounds how long the other gateways are told one thing.
	tellTimeout = 5 * time.Second

	// rewatchFirst doubles up to rewatchMost while watching fails.
	rewatchFirst = time.Second
	rewatchMost  = time.Minute

	// recheckEvery is how often the hold by hand is read, in case what another
	// gateway has changed was not seen, or was overtaken by a change here.
	recheckEvery   = 30 * time.Second
	recheckTimeout = 5 * time.Second

	// learnEvery is how often it is tried to read a hold by hand that could not
	// be read when the config was loaded.
	learnEvery = time.Second
)

// sharing is what a station whose inbox is used by several gateways has to do
// with the others, for as long as one dispatcher runs: it brings their holds to
// the dispatcher, and its findings to them.
type sharing struct {
	station    *station
	inbox      inbox.Shared
	dispatcher *dispatch.Dispatcher

	telling sync.Mutex
	news    chan inbox.Trouble // only the latest; telling is held while one is put there

	stop  context.CancelFunc
	tasks sync.WaitGroup

	strange *inbox.Hold // what recheck read last if it was not what is known; guarded by station.byHand
	unknown *inbox.Hold // stands for the hold by hand until that can be read; nil if it was
}

// mayBeAway reports whether the handler's config may be loaded though the
// inbox cannot be read yet.
func (st *station) mayBeAway(h *Handler) bool {
	lenient, ok := h.module.(caddymodule.LenientInbox)
	_, shared := st.inbox.(inbox.Shared)
	return ok && shared && lenient.StartsWithoutStorage()
}

// begin makes and starts the dispatcher, and what it shares with other gateways.
// While it is unknown whether an operator holds deliveries, they are held.
// The caller holds st.byHand and st.mu.
func (st *station) begin(h *Handler, held inbox.Hold, unknown bool) {
	if unknown {
		held = inbox.Hold{Since: time.Now(), Reason: "the inbox was not reached yet, so it is not known whether deliveries are held by hand"}
	}
	st.known = held
	st.sharing = nil
	if shared, ok := st.inbox.(inbox.Shared); ok {
		st.sharing = &sharing{station: st, inbox: shared, news: make(chan inbox.Trouble, 1)}
		if unknown {
			st.sharing.unknown = &held
		}
	}
	st.dispatcher = dispatch.New(st.inbox, st.settings(h))
	st.dispatcher.Pause(held)
	st.dispatcher.Start()
	if st.sharing != nil {
		st.sharing.begin(st.dispatcher)
	}
}

// settings are those of a handler, with an observer that tells other gateways.
// The caller holds st.mu.
func (st *station) settings(h *Handler) dispatch.Settings {
	s := h.dispatchSettings()
	if st.sharing != nil {
		s.Observer = teller{s.Observer, st.sharing}
	}
	return s
}

func (s *sharing) begin(d *dispatch.Dispatcher) {
	s.dispatcher = d
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.tasks.Go(func() { s.watch(ctx) })
	s.tasks.Go(func() { s.tellAll(ctx) })
	s.tasks.Go(func() { s.recheckAll(ctx) })
	if s.unknown != nil {
		s.tasks.Go(func() { s.learn(ctx) })
	}
}

// end returns when nothing of it uses the inbox any more. The caller holds
// neither st.byHand nor st.mu.
func (s *sharing) end() {
	if s == nil {
		return
	}
	s.stop()
	s.tasks.Wait()
}

// watch takes in what other gateways change, until ctx ends.
func (s *sharing) watch(ctx context.Context) {
	pause := rewatchFirst
	for {
		began := time.Now()
		err := s.inbox.Watch(ctx, s.holdElsewhere, s.dispatcher.PeerTrouble)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		if time.Since(began) > rewatchMost {
			pause = rewatchFirst
		}
		s.station.logger.Warn("holds of other gateways are not heeded: watching the inbox",
			zap.Error(err), zap.Duration("again_in", pause))
		if !waited(ctx, pause) {
			return
		}
		pause = min(2*pause, rewatchMost)
	}
}

func waited(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// holdElsewhere takes in that a hold by hand was set or ended.
func (s *sharing) holdElsewhere(h inbox.Hold) {
	s.station.byHand.Lock()
	defer s.station.byHand.Unlock()
	s.takeOver(h)
}

// takeOver brings a hold by hand to the dispatcher, unless it has it. The
// caller holds station.byHand.
func (s *sharing) takeOver(h inbox.Hold) {
	before := s.station.known
	if sameHold(h, before) {
		return
	}
	s.station.known = h
	now := time.Now()
	if before.InForce(now) && !h.InForce(now) {
		s.dispatcher.Resume()
		return
	}
	s.dispatcher.Pause(h)
}

// learn reads the hold by hand as soon as that can be done.
func (s *sharing) learn(ctx context.Context) {
	for waited(ctx, learnEvery) {
		if s.learned(ctx) {
			return
		}
	}
}

func (s *sharing) learned(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, recheckTimeout)
	defer cancel()
	s.station.byHand.Lock()
	defer s.station.byHand.Unlock()
	if !sameHold(s.station.known, *s.unknown) {
		return true // it was told
	}
	h, err := s.station.inbox.Hold(ctx)
	if err == nil {
		s.takeOver(h)
	}
	return err == nil
}

// recheckAll reads the hold by hand from time to time.
func (s *sharing) recheckAll(ctx context.Context) {
	for waited(ctx, recheckEvery) {
		s.recheck(ctx)
	}
}

// recheck takes over a hold that is not known if it was there the last time as
// well: what is read may be a moment old, and a change may be on its way.
func (s *sharing) recheck(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, recheckTimeout)
	defer cancel()
	s.station.byHand.Lock()
	defer s.station.byHand.Unlock()
	h, err := s.station.inbox.Hold(ctx)
	switch {
	case err != nil: // who watches has told
	case sameHold(h, s.station.known):
		s.strange = nil
	case s.strange == nil || !sameHold(h, *s.strange):
		s.strange = &h
	default:
		s.strange = nil
		s.takeOver(h)
	}
}

// sameHold compares as precisely as an inbox keeps it.
func sameHold(a, b inbox.Hold) bool {
	same := func(a, b time.Time) bool {
		return a.IsZero() == b.IsZero() && (a.IsZero() || a.UnixMicro() == b.UnixMicro())
	}
	return same(a.Since, b.Since) && same(a.Until, b.Until) && same(a.Ended, b.Ended) && a.Reason == b.Reason
}

// tell has the other gateways told, in place of what they have not been told
// yet. It does not wait.
func (s *sharing) tell(t inbox.Trouble) {
	s.telling.Lock()
	defer s.telling.Unlock()
	select {
	case <-s.news:
	default:
	}
	s.news <- t
}

// tellAll tells the other gateways what there is to tell, until ctx ends.
func (s *sharing) tellAll(ctx context.Context) {
	for {
		select {
		case t := <-s.news:
			if err := s.tellOne(ctx, t); err != nil && ctx.Err() == nil {
				s.station.logger.Warn("other gateways are not told how the upstream is", zap.Error(err))
			}
		case <-ctx.Done():
			return
		}
	}
}

func (s *sharing) tellOne(ctx context.Context, t inbox.Trouble) error {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	return s.inbox.TellTrouble(ctx, t)
}

// teller is an Observer that tells other gateways what this one has found out
// by itself. What it was told by them it does not tell on.
type teller struct {
	dispatch.Observer
	sharing *sharing
}

// Held implements dispatch.Observer.
func (t teller) Held(h dispatch.Holding) {
	t.trouble(h, h.Until)
	t.Observer.Held(h)
}

// Prolonged implements dispatch.Observer.
func (t teller) Prolonged(h dispatch.Holding) {
	t.trouble(h, h.Until)
	t.Observer.Prolonged(h)
}

// Resumed implements dispatch.Observer.
func (t teller) Resumed(h dispatch.Holding, after time.Duration) {
	t.trouble(h, time.Time{})
	t.Observer.Resumed(h, after)
}

func (t teller) trouble(h dispatch.Holding, until time.Time) {
	if !h.ByHand && !h.FromPeer {
		t.sharing.tell(inbox.Trouble{Until: until, Reason: h.Reason})
	}
}

// Interface guard
var _ dispatch.Observer = teller{}

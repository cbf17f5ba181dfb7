package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

const (
	// reportTimeout bounds one report to the peers.
	reportTimeout = 5 * time.Second

	// rewatchFirst is the first pause after watching has failed. It doubles up to
	// rewatchMost.
	rewatchFirst = time.Second
	rewatchMost  = time.Minute

	// recheckEvery is how often the hold by hand is read, in case a peer's change was
	// missed, or came in between a change here.
	recheckEvery   = 30 * time.Second
	recheckTimeout = 5 * time.Second

	// learnEvery is the pause between attempts to read a hold by hand that could not
	// be read when the config was loaded.
	learnEvery = time.Second
)

// peers are the other gateways that share an inbox, as far as one lane's destination is
// concerned. The lane gets the holds of the peers, and they get its findings.
type peers struct {
	lane  *lane
	queue inbox.Shared

	reporting sync.Mutex
	news      chan inbox.Trouble // only the latest; reporting is locked while one is put there

	stop  context.CancelFunc
	tasks sync.WaitGroup

	differs *inbox.Hold // read by the last recheck, and different from lane.known; guarded by lane.byHand
	unknown *inbox.Hold // in place of the hold by hand until that can be read; nil if it could
}

func newPeers(l *lane, queue inbox.Shared) *peers {
	p := &peers{lane: l, queue: queue, news: make(chan inbox.Trouble, 1)}
	if l.unknown {
		held := l.known
		p.unknown = &held
	}
	return p
}

func (p *peers) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	p.tasks.Go(func() { p.watch(ctx) })
	p.tasks.Go(func() { p.reportAll(ctx) })
	p.tasks.Go(func() { p.recheckAll(ctx) })
	if p.unknown != nil {
		p.tasks.Go(func() { p.learn(ctx) })
	}
}

// end stops the exchange, and returns when it does not use the inbox any more. The
// caller has locked neither lane.byHand nor gateway.mu.
func (p *peers) end() {
	if p == nil {
		return
	}
	p.stop()
	p.tasks.Wait()
}

// watch follows what peers change, until ctx ends.
func (p *peers) watch(ctx context.Context) {
	pause := rewatchFirst
	for {
		began := time.Now()
		err := p.queue.Watch(ctx, p.holdChanged, p.lane.dispatcher.PeerTrouble)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		if time.Since(began) > rewatchMost {
			pause = rewatchFirst
		}
		p.warn("holds of other gateways are not heeded: watching the inbox",
			zap.Error(err), zap.Duration("again_in", pause))
		if !sleep.For(ctx, pause) {
			return
		}
		pause = min(2*pause, rewatchMost)
	}
}

// warn logs a line, unless the lane has ended.
func (p *peers) warn(text string, fields ...zap.Field) {
	if logger := p.lane.logger(); logger != nil {
		logger.Warn(text, fields...)
	}
}

// holdChanged is called when a peer has set or ended a hold by hand.
func (p *peers) holdChanged(h inbox.Hold) {
	p.lane.byHand.Lock()
	defer p.lane.byHand.Unlock()
	p.adopt(h)
}

// adopt applies a hold by hand that is not known yet to the dispatcher. The caller has
// locked lane.byHand.
func (p *peers) adopt(h inbox.Hold) {
	before := p.lane.known
	if sameHold(h, before) {
		return
	}
	p.lane.known = h
	now := time.Now()
	if before.InForce(now) && !h.InForce(now) {
		p.lane.dispatcher.Resume()
		return
	}
	p.lane.dispatcher.Pause(h)
}

// learn reads the hold by hand as soon as the inbox can be read.
func (p *peers) learn(ctx context.Context) {
	for sleep.For(ctx, learnEvery) {
		if p.learned(ctx) {
			return
		}
	}
}

func (p *peers) learned(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, recheckTimeout)
	defer cancel()
	p.lane.byHand.Lock()
	defer p.lane.byHand.Unlock()
	if !sameHold(p.lane.known, *p.unknown) {
		return true // a peer has changed it meanwhile
	}
	h, err := p.lane.queue.Hold(ctx)
	if err == nil {
		p.adopt(h)
	}
	return err == nil
}

// recheckAll reads the hold by hand from time to time.
func (p *peers) recheckAll(ctx context.Context) {
	for sleep.For(ctx, recheckEvery) {
		p.recheck(ctx)
	}
}

// recheck adopts a hold that was missed. It must be read twice in a row, because what is
// read may be a moment old, and its change may still be on the way.
func (p *peers) recheck(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, recheckTimeout)
	defer cancel()
	p.lane.byHand.Lock()
	defer p.lane.byHand.Unlock()
	h, err := p.lane.queue.Hold(ctx)
	switch {
	case err != nil: // watch logs that
	case sameHold(h, p.lane.known):
		p.differs = nil
	case p.differs == nil || !sameHold(h, *p.differs):
		p.differs = &h
	default:
		p.differs = nil
		p.adopt(h)
	}
}

// sameHold compares as precisely as an inbox keeps it.
func sameHold(a, b inbox.Hold) bool {
	same := func(a, b time.Time) bool {
		return a.IsZero() == b.IsZero() && (a.IsZero() || a.UnixMicro() == b.UnixMicro())
	}
	return same(a.Since, b.Since) && same(a.Until, b.Until) && same(a.Ended, b.Ended) && a.Reason == b.Reason
}

// report queues a finding for the peers, in place of one that was not reported yet. It
// does not wait.
func (p *peers) report(t inbox.Trouble) {
	p.reporting.Lock()
	defer p.reporting.Unlock()
	select {
	case <-p.news:
	default:
	}
	p.news <- t
}

// reportAll reports what is queued, until ctx ends.
func (p *peers) reportAll(ctx context.Context) {
	for {
		select {
		case t := <-p.news:
			if err := p.reportOne(ctx, t); err != nil && ctx.Err() == nil {
				p.warn("other gateways are not told how the upstream is", zap.Error(err))
			}
		case <-ctx.Done():
			return
		}
	}
}

func (p *peers) reportOne(ctx context.Context, t inbox.Trouble) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	return p.queue.TellTrouble(ctx, t)
}

// reporter is an Observer that reports the findings of this gateway to the peers, but
// not what peers have reported.
type reporter struct {
	dispatch.Observer
	peers *peers
}

// Held implements dispatch.Observer.
func (r reporter) Held(h dispatch.Holding) {
	r.trouble(h, h.Until)
	r.Observer.Held(h)
}

// Prolonged implements dispatch.Observer.
func (r reporter) Prolonged(h dispatch.Holding) {
	r.trouble(h, h.Until)
	r.Observer.Prolonged(h)
}

// Resumed implements dispatch.Observer.
func (r reporter) Resumed(h dispatch.Holding, after time.Duration) {
	r.trouble(h, time.Time{})
	r.Observer.Resumed(h, after)
}

func (r reporter) trouble(h dispatch.Holding, until time.Time) {
	if !h.ByHand && !h.FromPeer {
		r.peers.report(inbox.Trouble{Until: until, Reason: h.Reason})
	}
}

// Interface guard
var _ dispatch.Observer = reporter{}

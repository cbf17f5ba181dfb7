package gateway

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/logfield"
)

// journals has the journal of every handler name in use. It outlives configs, so that
// a reload loses no notices, refusals or counts.
var journals = journalPool{byName: make(map[string]*Journal)}

// Journal is what operators see of a handler beside its inbox: what happens as it
// happens, what became of callbacks lately, and who was refused.
type Journal struct {
	name     string
	users    int // Refs; guarded by journalPool.mu
	feed     *control.Feed
	arrivals arrivals
	refusals refusals
	recent   *recent
	past     *past

	// repeats bounds how often a callback in quarantine that arrives again is published.
	repeats *rate.Limiter

	// config is the newest one that runs. It emits the Caddy events.
	config atomic.Pointer[Config]

	mu      sync.Mutex
	running int // attachments
	stop    context.CancelFunc
	ended   sync.WaitGroup // what stop ends
}

// Callbacks in quarantine that arrive again are logged and published so many at once,
// and then at this pace. Each line and notice has the count.
const (
	repeatsAtOnce = 10
	repeatsEvery  = 10 * time.Second
)

type journalPool struct {
	mu     sync.Mutex
	byName map[string]*Journal
}

// get returns the journal of a name. It must be put back.
func (p *journalPool) get(name string) *Journal {
	p.mu.Lock()
	defer p.mu.Unlock()
	j := p.byName[name]
	if j == nil {
		j = &Journal{
			name: name, feed: control.NewFeed(name), recent: newRecent(time.Now), past: newPast(time.Now),
			repeats: rate.NewLimiter(rate.Every(repeatsEvery), repeatsAtOnce),
		}
		p.byName[name] = j
	}
	j.users++
	return j
}

// put ends one use of a journal. The last one ends its feed.
func (p *journalPool) put(j *Journal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if j.users--; j.users == 0 {
		delete(p.byName, j.name)
		j.feed.Close()
	}
}

// begin must be called when a config has started. It emits the Caddy events from then on.
func (j *Journal) begin(c *Config) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.config.Store(c)
	j.running++
	if j.running > 1 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	j.stop = cancel
	j.past.recall = func() {
		j.ended.Go(func() { j.past.remember(ctx, j.name) })
	}
	follower, err := j.feed.Follow("")
	if err != nil {
		c.Logger.Error("Caddy's events will not tell what happens", zap.Error(err))
		return
	}
	j.ended.Go(func() { j.emitAll(ctx, follower) })
}

// attached must be called when the handler's inbox can be found by its name. The first
// time, it begins to read what has happened before.
func (j *Journal) attached() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.past.recall != nil && !j.past.recalled {
		j.past.recalled = true
		j.past.recall()
	}
}

// emitGrace is how long the end of a handler waits until its last Caddy events have been
// handled.
const emitGrace = 2 * time.Second

// end must be called when a config has stopped; next is the newest that still runs, nil
// if none does. After the last one, it waits until the Caddy events of all notices have
// been handled.
func (j *Journal) end(next *Attachment) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if next != nil {
		j.config.Store(next.config)
	}
	if j.running--; j.running > 0 {
		return
	}
	j.stop()
	ended := make(chan struct{})
	go func() {
		j.ended.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(emitGrace):
		j.config.Load().Logger.Warn("the last Caddy events were not handled in time", zap.Duration("waited", emitGrace))
	}
}

// maxRevised bounds how often an event is put whose revision was another one each time,
// because other outcomes of its task were stored meanwhile.
const maxRevised = 100

// put stores an event and publishes that it was accepted, see Ref.Put.
func (j *Journal) put(ctx context.Context, g *Gateway, e *inbox.Event, source netip.Addr) (duplicate bool, err error) {
	if c := j.config.Load(); c != nil && e.Origin == inbox.FromCallback && e.Status == inbox.InProgress {
		if after := c.askAfter(); after > 0 {
			e.Track = time.Now().UTC().Add(after)
		}
	}
	for range maxRevised {
		duplicate, err = j.putOnce(ctx, g, e, source)
		wrong, ok := errors.AsType[*inbox.RevisionError](err)
		if !ok {
			break
		}
		if err := callback.Revise(e, wrong.Revision); err != nil {
			return false, err
		}
	}
	if err == nil && !duplicate && e.Revision > 1 {
		g.logger.Warn("Fotor tells another outcome of a task than before",
			logfield.Event(e, zap.Stringer("origin", e.Origin), zap.Int("revision", e.Revision))...)
	}
	return duplicate, err
}

func (j *Journal) putOnce(ctx context.Context, g *Gateway, e *inbox.Event, source netip.Addr) (duplicate bool, err error) {
	if e.Status != inbox.Unconfirmed {
		e.Destinations = nil // where it goes may depend on the revision
		g.routes.Load().send(e)
	}
	arrived := j.arrivals.begin(e, source)
	duplicateOf, err := g.inbox.Put(ctx, e)
	stored := e
	if err != nil || duplicateOf != "" {
		stored = nil
	}
	j.arrivals.end(arrived, stored, j.feed.Publish)
	if err == nil && duplicateOf != "" {
		e.ID = duplicateOf
	}
	return duplicateOf != "", err
}

// Quarantined publishes that a callback was not valid. A callback that was not
// kept has the id 0. It reports false if nothing was published, because the same
// callback arrives again and again.
func (j *Journal) Quarantined(kept *inbox.Suspect, source netip.Addr, reason string, problems int) bool {
	if kept.Count > 1 && !j.repeats.Allow() {
		return false
	}
	j.feed.Publish(control.Notice{
		Kind:         control.InQuarantine,
		QuarantineID: kept.ID,
		Count:        kept.Count,
		SourceIP:     source.String(),
		Problems:     problems,
		Reason:       reason,
	})
	return true
}

// lost publishes that a task was given up, with the event that says so.
func (j *Journal) lost(e *inbox.Event, t inbox.Task) {
	since := t.Since.UTC()
	j.feed.Publish(control.Notice{
		Kind: control.Lost, ID: e.ID, TaskID: t.ID, Type: e.Type, Status: e.Status.String(), Origin: e.Origin.String(),
		Since: &since, Asked: t.Asked, Reason: t.Answer,
	})
}

// Count counts what became of a callback.
func (j *Journal) Count(o Outcome) { j.recent.add(o) }

// Answered counts a callback that was answered, and how long that took.
func (j *Journal) Answered(o Outcome, took time.Duration) {
	j.recent.add(o)
	j.past.answered(o, took)
}

// Failed records why something could not be stored, for operators only.
func (j *Journal) Failed(err error) { j.recent.fails(err) }

// tooLarge records that the quarantine cannot keep something that is no request's.
func (j *Journal) tooLarge(log *zap.Logger, err error) {
	log.Error("invalid callback could not be kept in quarantine", zap.Error(err))
	j.Count(NotKept)
	j.Failed(err)
}

// Refused records a caller that was refused: the client's address, empty if it is not
// known, and the peer of the connection.
func (j *Journal) Refused(address, peer, reason string, at time.Time) {
	j.refusals.add(address, peer, reason, at)
}

package fotorwebhook

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/fotor-webhook/caddy-fotor-webhook/body"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// desks holds the desk of every handler name in use. It lives as long as the
// process, so that a reload loses neither notices nor refusals nor counts.
var desks = deskPool{open: make(map[string]*desk)}

// desk is what the operator of a handler looks at beside its inbox: what
// happens, and who was refused.
type desk struct {
	name     string
	users    int // handlers; guarded by deskPool.mu
	feed     *control.Feed
	refusals refusals
	arrivals arrivals
	bodies   body.Room
	hidden   sync.Once // the warning that connections are
	recent   *recent

	// repeats says how often a callback in quarantine that arrives again is told.
	repeats *rate.Limiter

	// handler is the newest that runs: Caddy's events go its way.
	handler atomic.Pointer[Handler]

	mu      sync.Mutex
	running int // attachments
	stop    context.CancelFunc
	ended   chan struct{}
}

// Callbacks in quarantine that arrive again and again are told, in the log and in
// the feed, so many at once and then at this pace: each line has the count.
const (
	repeatsAtOnce = 10
	repeatsEvery  = 10 * time.Second
)

type deskPool struct {
	mu   sync.Mutex
	open map[string]*desk
}

// get returns the desk of a name. It must be put back.
func (p *deskPool) get(name string) *desk {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.open[name]
	if d == nil {
		d = &desk{name: name, feed: control.NewFeed(name), recent: newRecent(time.Now), repeats: rate.NewLimiter(rate.Every(repeatsEvery), repeatsAtOnce)}
		p.open[name] = d
	}
	d.users++
	return d
}

// put gives a desk back. The last one who does ends its feed.
func (p *deskPool) put(d *desk) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d.users--; d.users == 0 {
		delete(p.open, d.name)
		d.feed.Close()
	}
}

// begin brings a handler that has started to the desk, and lets Caddy's events
// go its way from now on.
func (d *desk) begin(h *Handler) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.handler.Store(h)
	d.running++
	if d.running > 1 {
		return
	}
	follower, err := d.feed.Follow("")
	if err != nil {
		h.logger.Error("Caddy's events will not tell what happens", zap.Error(err))
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.stop, d.ended = cancel, make(chan struct{})
	go d.emitAll(ctx, follower, d.ended)
}

// emitGrace is how long the end of a handler waits for Caddy events that were
// not handled yet.
const emitGrace = 2 * time.Second

// end takes a handler away that has stopped; next is the newest that still
// runs, nil if none does. With the last one, what has happened until then is
// told first.
func (d *desk) end(next *attachment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if next != nil {
		d.handler.Store(next.handler)
	}
	if d.running--; d.running > 0 || d.stop == nil {
		return
	}
	d.stop()
	select {
	case <-d.ended:
	case <-time.After(emitGrace):
		d.handler.Load().logger.Warn("the last Caddy events were not handled in time", zap.Duration("waited", emitGrace))
	}
	d.stop = nil
}

const (
	// emitBatch is how many notices are turned into Caddy events at a time, and
	// emitPause how long is waited for more: waking up for each would cost more
	// than the events.
	emitBatch = 256
	emitPause = 20 * time.Millisecond
)

// emitAll turns notices into Caddy events until ctx is done and none is left.
// Handlers of Caddy events run one after the other, and not on the way of a
// callback: one that is slow misses events, not callbacks.
func (d *desk) emitAll(ctx context.Context, follower *control.Follower, ended chan<- struct{}) {
	defer close(ended)
	defer follower.Close()
	entries := make([]control.Entry, 0, emitBatch)
	for {
		var err error
		entries, err = follower.Next(ctx, entries[:0], emitBatch)
		if err != nil {
			return
		}
		for i := range entries {
			d.emit(&entries[i].Notice)
		}
		if len(entries) < emitBatch {
			select {
			case <-time.After(emitPause):
			case <-ctx.Done():
			}
		}
	}
}

// eventNames are the names of the Caddy events by the kinds of notices. The
// other kinds are not told.
var eventNames = map[string]string{
	control.Accepted:     "fotor_webhook.accepted",
	control.Delivered:    "fotor_webhook.delivered",
	control.Dead:         "fotor_webhook.dead",
	control.Held:         "fotor_webhook.held",
	control.Resumed:      "fotor_webhook.resumed",
	control.InQuarantine: "fotor_webhook.quarantined",
}

func (d *desk) emit(n *control.Notice) {
	h := d.handler.Load()
	if n.Kind == control.Gap {
		h.metrics.noticesDropped.Add(float64(n.Missed))
		h.logger.Warn("handlers of Caddy events are too slow; they have missed some", zap.Int64("missed", n.Missed))
		return
	}
	name, ok := eventNames[n.Kind]
	if !ok || !h.events.ShouldEmit(name) {
		return
	}
	defer func() { // somebody else's fault must not end the process
		if fault := recover(); fault != nil {
			h.logger.Error("panic in a handler of Caddy events", zap.String("event", name), zap.Any("panic", fault))
		}
	}()
	h.events.Emit(h.ctx, name, eventData(n))
}

// eventData is what a Caddy event carries: the placeholders {event.data.*}.
func eventData(n *control.Notice) map[string]any {
	data := map[string]any{"handler": n.Handler, "time": n.At.Format(time.RFC3339Nano)}
	text := func(name, value string) {
		if value != "" {
			data[name] = value
		}
	}
	text("id", n.ID)
	text("task_id", n.TaskID)
	text("type", n.Type)
	text("status", n.Status)
	text("source_ip", n.SourceIP)
	text("reason", n.Reason)
	text("by", n.By)
	if n.Until != nil {
		data["until"] = n.Until.Format(time.RFC3339Nano)
	}
	if n.Attempt > 0 {
		data["attempt"] = n.Attempt
		data["upstream_status"] = n.UpstreamStatus
	}
	if n.Kind == control.InQuarantine {
		data["quarantine_id"] = n.QuarantineID
		data["count"] = n.Count
		data["problems"] = n.Problems
	}
	return data
}

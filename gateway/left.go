package gateway

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

// Destinations returns how the destinations are doing, in the order of their names:
// those that the config has, and those left behind by earlier ones, to which deliveries
// are pending or dead. stats may be nil.
func (g *Gateway) Destinations(c *Config, stats *inbox.Stats) []control.Destination {
	all := make([]control.Destination, 0, len(c.Destinations))
	for _, name := range c.destinationNames() {
		all = append(all, control.Destination{Name: name, Configured: true})
	}
	if stats != nil {
		all = addStats(all, stats)
	}
	now := time.Now()
	for i := range all {
		d := &all[i]
		d.Holds = []control.Hold{}
		if l := g.lane(d.Name); l != nil {
			d.Holds, d.UnderWay, d.LastDelivery = l.holds(now), l.dispatcher.UnderWay(), l.lastDelivery()
			if d.Configured {
				p := l.pressure()
				d.Pressure = &p
			}
		}
	}
	slices.SortFunc(all, func(a, b control.Destination) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// addStats adds the numbers of deliveries, and the destinations left behind.
func addStats(all []control.Destination, stats *inbox.Stats) []control.Destination {
	configured := len(all)
	for i := range all {
		all[i].Deliveries = new(control.Counts) // none, unless there are numbers
	}
	for i := range stats.Destinations {
		s := &stats.Destinations[i]
		at := slices.IndexFunc(all[:configured], func(d control.Destination) bool { return d.Name == s.Name })
		if at < 0 {
			if s.Deliveries[inbox.Pending] == 0 && s.Deliveries[inbox.Dead] == 0 {
				continue
			}
			at = len(all)
			all = append(all, control.Destination{Name: s.Name, Configured: s.Name == inbox.ConfirmDestination})
		}
		all[at].Deliveries = countsOf(&s.Deliveries)
		if !s.OldestPending.IsZero() {
			oldest := s.OldestPending.UTC()
			all[at].OldestPending = &oldest
		}
	}
	return all
}

// leftBehind remembers what was logged of destinations that the config does not name.
type leftBehind struct {
	mu     sync.Mutex
	logged map[string]leftLine
}

type leftLine struct {
	pending, dead int64
	at            time.Time
}

// leftAgain is when a line about a destination that was left behind is repeated by a
// reload although nothing has changed.
const leftAgain = time.Hour

// news reports whether there is something to log about a destination, and remembers it.
func (l *leftBehind) news(d *control.Destination, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := leftLine{d.Deliveries.Pending, d.Deliveries.Dead, now}
	if last, ok := l.logged[d.Name]; ok && last.pending == line.pending && last.dead == line.dead && now.Sub(last.at) < leftAgain {
		return false
	}
	l.logged[d.Name] = line
	return true
}

// keep forgets the destinations that are not left behind any more.
func (l *leftBehind) keep(left []control.Destination) {
	l.mu.Lock()
	defer l.mu.Unlock()
	logged := make(map[string]leftLine, len(left))
	for i := range left {
		if line, ok := l.logged[left[i].Name]; ok {
			logged[left[i].Name] = line
		}
	}
	l.logged = logged
}

// leftRetry is the pause until a start looks again whether something is left behind, after
// the inbox could not be read.
const leftRetry = time.Minute

// WarnLeftBehind logs the destinations to which deliveries are pending or dead though
// the config does not name them. It is for a start: while an older config still
// delivers to them it does nothing, and Detach logs them after that. It returns when it
// could read the inboxes, or when ctx ends.
func WarnLeftBehind(ctx context.Context, atts []*Attachment) {
	var looks sync.WaitGroup
	for _, att := range atts {
		looks.Go(func() {
			for first := true; att.alone(); first = false {
				if att.gateway.warnLeftBehind(ctx, att.config, first) || !sleep.For(ctx, leftRetry) {
					return
				}
			}
		})
	}
	looks.Wait()
}

// alone reports whether the gateway has no other attachment.
func (att *Attachment) alone() bool {
	g := att.gateway
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.attachments) == 1 && g.attachments[0] == att
}

// warnLeftBehind reports false if the inbox cannot be read, which it logs only if told.
func (g *Gateway) warnLeftBehind(ctx context.Context, newest *Config, tell bool) bool {
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	logger := newest.Logger
	stats, err := g.inbox.Stats(ctx)
	if err != nil {
		if tell && !errors.Is(ctx.Err(), context.Canceled) {
			logger.Warn("it cannot be read whether deliveries wait for destinations that the config does not name", zap.Error(err))
		}
		return false
	}
	left := slices.DeleteFunc(g.Destinations(newest, &stats), func(d control.Destination) bool { return d.Configured })
	g.left.keep(left)
	for i := range left {
		d := &left[i]
		if !g.left.news(d, time.Now()) {
			continue
		}
		logger.Warn("deliveries are left behind for a destination that the config does not name",
			zap.String("destination", d.Name), zap.Int64("pending", d.Deliveries.Pending), zap.Int64("dead", d.Deliveries.Dead),
			zap.String("advice", "name it again, replay them to another one with --to, or purge them"))
	}
	return true
}

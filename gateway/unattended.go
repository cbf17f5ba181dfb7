package gateway

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/logfield"
)

const (
	// surveyTimeout bounds a look at the inboxes without a handler.
	surveyTimeout = 2 * time.Second

	// surveyFresh is how long the result of a survey is used again.
	surveyFresh = 30 * time.Second

	// maxLeft bounds the number of former inboxes that are remembered.
	maxLeft = 100
)

// unattended has the inboxes that former configs of this process used, wherever they are.
var unattended = unattendedInboxes{keys: make(map[string]time.Time)}

// Surveyors returns the modules that can look for inboxes without a handler.
type Surveyors func() []inbox.Surveyor

type unattendedInboxes struct {
	mu    sync.Mutex
	keys  map[string]time.Time // when the last handler left
	found []control.Unattended // by the last survey
	more  bool
	at    time.Time
}

// add records an inbox whose last handler has left.
func (u *unattendedInboxes) add(key string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.keys[key] = time.Now()
	u.at = time.Time{}
	if len(u.keys) > maxLeft {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(u.keys)), func(a, b string) int { return u.keys[a].Compare(u.keys[b]) })
		delete(u.keys, oldest)
	}
}

// survey looks at the inboxes without a handler. The result of a moment ago is used
// again.
func (u *unattendedInboxes) survey(ctx context.Context, surveyors Surveyors) (found []control.Unattended, more bool, errs []error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.at.IsZero() && time.Since(u.at) < surveyFresh {
		return u.found, u.more, nil
	}
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	keys := slices.Collect(maps.Keys(u.keys))
	found = []control.Unattended{}
	for _, surveyor := range surveyors() {
		some, others, err := surveyor.Survey(ctx, keys)
		if err != nil {
			errs = append(errs, err)
		}
		more = more || others
		for _, each := range some {
			if len(found) == control.MaxUnattended {
				more = true
				break
			}
			c := control.Unattended{Storage: each.Key, Pending: each.Pending, Dead: each.Dead, Quarantined: each.Quarantined, Tracked: each.Tracked}
			if each.Err != nil {
				c.Error = logfield.Cut(each.Err.Error())
			}
			found = append(found, c)
		}
	}
	if ctx.Err() == nil { // else it is incomplete
		u.found, u.more, u.at = found, more, time.Now()
	}
	return found, more, errs
}

// forget drops the result of the last survey, because an inbox was opened or closed.
func (u *unattendedInboxes) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.at = time.Time{}
}

// loggedAgainAfter keeps the survey after a reload from logging again what Leave has
// logged.
const loggedAgainAfter = 10 * time.Second

// logged reports whether Leave logged the inbox a moment ago.
func (u *unattendedInboxes) logged(key string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	at, ok := u.keys[key]
	return ok && time.Since(at) < loggedAgainAfter
}

// WarnUnattended logs the inboxes without a handler that are not empty.
func WarnUnattended(ctx context.Context, surveyors Surveyors, logger *zap.Logger) {
	found, more, errs := unattended.survey(ctx, surveyors)
	if ctx.Err() != nil {
		return
	}
	for _, err := range errs {
		logger.Warn("inboxes without a handler cannot be looked for", zap.Error(err))
	}
	for _, u := range found {
		switch {
		case unattended.logged(u.Storage):
		case u.Error != "":
			logger.Warn("an inbox without a handler cannot be looked at", zap.String("storage", u.Storage), zap.String("error", u.Error))
		default:
			logUnattended(logger, u)
		}
	}
	if more {
		logger.Warn("there are more inboxes without a handler than are looked at")
	}
}

func logUnattended(logger *zap.Logger, u control.Unattended) {
	fields := []zap.Field{
		zap.String("storage", u.Storage),
		zap.Int64("pending", u.Pending),
		zap.Int64("dead", u.Dead),
		zap.Int64("quarantined", u.Quarantined),
		zap.Int64("tracked", u.Tracked),
	}
	switch {
	case u.Pending > 0:
		logger.Warn("events wait in an inbox that no handler of this Caddy has; it does not deliver them", fields...)
		return
	case u.Tracked > 0:
		logger.Warn("tasks wait in an inbox that no handler of this Caddy has; it does not ask Fotor for them", fields...)
		return
	}
	logger.Info("an inbox that no handler of this Caddy has is not empty", fields...)
}

// Leave logs what is in the inbox after its last handler has left the config.
func (att *Attachment) Leave() {
	g := att.gateway
	unattended.add(g.key)
	ctx, cancel := context.WithTimeout(context.Background(), surveyTimeout)
	defer cancel()
	stats, err := g.inbox.Stats(ctx)
	if err != nil {
		g.logger.Warn("no handler has this inbox any more, and what is in it cannot be read", zap.String("storage", g.key), zap.Error(err))
		return
	}
	u := control.Unattended{
		Storage: g.key,
		Pending: stats.Events[inbox.Pending], Dead: stats.Events[inbox.Dead], Quarantined: stats.Quarantined,
	}
	if tracker, ok := g.inbox.(inbox.Tracker); ok {
		tasks, err := tracker.TaskStats(ctx)
		if err != nil {
			g.logger.Warn("no handler has this inbox any more, and it cannot be read whether tasks wait in it", zap.String("storage", g.key), zap.Error(err))
		}
		u.Tracked = tasks.Waiting
	}
	if u.Pending+u.Dead+u.Quarantined+u.Tracked > 0 {
		logUnattended(g.logger, u)
	}
}

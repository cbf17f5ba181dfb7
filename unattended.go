package fotorwebhook

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	// surveyTimeout bounds a look at the inboxes that no handler has.
	surveyTimeout = 2 * time.Second

	// surveyFresh is how long what it found is not looked for again.
	surveyFresh = 30 * time.Second

	// maxLeft bounds the inboxes that are remembered because a config used them.
	maxLeft = 100
)

// left remembers the inboxes that configs of this process have used and use no
// more, wherever they are.
var left = leftInboxes{keys: make(map[string]time.Time)}

type leftInboxes struct {
	mu    sync.Mutex
	keys  map[string]time.Time // when a handler had it last
	found []control.Unattended // by the last survey
	more  bool
	at    time.Time
}

// leave remembers an inbox whose last handler has gone.
func (l *leftInboxes) leave(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys[key] = time.Now()
	l.at = time.Time{}
	if len(l.keys) > maxLeft {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(l.keys)), func(a, b string) int { return l.keys[a].Compare(l.keys[b]) })
		delete(l.keys, oldest)
	}
}

// survey looks at the inboxes that no handler has. They are looked at anew unless
// that was a moment ago.
func (l *leftInboxes) survey(ctx context.Context) (found []control.Unattended, more bool, errs []error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.at.IsZero() && time.Since(l.at) < surveyFresh {
		return l.found, l.more, nil
	}
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	keys := slices.Collect(maps.Keys(l.keys))
	found = []control.Unattended{}
	for _, info := range caddy.GetModules("http.fotor_webhook.inbox") {
		surveyor, ok := info.New().(inbox.Surveyor)
		if !ok {
			continue
		}
		some, others, err := surveyor.Survey(ctx, keys)
		if err != nil {
			errs = append(errs, err)
		}
		more = more || others
		for _, u := range some {
			if len(found) == control.MaxUnattended {
				more = true
				break
			}
			c := control.Unattended{Storage: u.Key, Pending: u.Pending, Dead: u.Dead, Quarantined: u.Quarantined}
			if u.Err != nil {
				c.Error = cut(u.Err.Error())
			}
			found = append(found, c)
		}
	}
	if ctx.Err() == nil { // else it is not whole
		l.found, l.more, l.at = found, more, time.Now()
	}
	return found, more, errs
}

// forget makes the next survey look anew: an inbox was opened or closed.
func (l *leftInboxes) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = time.Time{}
}

// toldAgainAfter keeps a survey right after a reload from telling once more what
// the reload has told.
const toldAgainAfter = 10 * time.Second

// told reports whether it was told a moment ago that nobody has the inbox.
func (l *leftInboxes) told(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.keys[key]
	return ok && time.Since(at) < toldAgainAfter
}

// warnUnattended tells of the inboxes that hold something and that no handler has.
func warnUnattended(ctx context.Context, logger *zap.Logger) {
	found, more, errs := left.survey(ctx)
	if ctx.Err() != nil {
		return
	}
	for _, err := range errs {
		logger.Warn("inboxes without a handler cannot be looked for", zap.Error(err))
	}
	for _, u := range found {
		switch {
		case left.told(u.Storage):
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
	}
	if u.Pending > 0 {
		logger.Warn("events wait in an inbox that no handler of this Caddy has; it does not deliver them", fields...)
		return
	}
	logger.Info("an inbox that no handler of this Caddy has is not empty", fields...)
}

// leave tells what is in the inbox if its last handler has gone from the config.
func (att *attachment) leave() {
	if caddy.Exiting() {
		return // it comes again with the process
	}
	st := att.station
	left.leave(st.key)
	ctx, cancel := context.WithTimeout(context.Background(), surveyTimeout)
	defer cancel()
	stats, err := st.inbox.Stats(ctx)
	if err != nil {
		st.logger.Warn("no handler has this inbox any more, and what is in it cannot be read", zap.String("storage", st.key), zap.Error(err))
		return
	}
	u := control.Unattended{
		Storage: st.key,
		Pending: stats.Events[inbox.Pending], Dead: stats.Events[inbox.Dead], Quarantined: stats.Quarantined,
	}
	if u.Pending+u.Dead+u.Quarantined > 0 {
		logUnattended(st.logger, u)
	}
}

// Unattended implements control.Provider.
func (operators) Unattended(ctx context.Context) ([]control.Unattended, bool) {
	found, more, _ := left.survey(ctx)
	return found, more
}

package gateway

import (
	"context"
	"sync"
	"time"
)

// waitStep is for how long callbacks that are to be stored share a context.
const waitStep = 100 * time.Millisecond

// waits gives out the contexts in which callbacks are stored. Many share one: each with a
// timer of its own cost as much as hashing the callback. Its zero value is ready.
type waits struct {
	mu    sync.Mutex
	ctx   context.Context //nolint:containedctx // it is given out while it is young enough
	young time.Time       // until when it is
}

// context returns a context that ends after StoreTimeout, or up to waitStep later.
func (w *waits) context() context.Context {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx == nil || !now.Before(w.young) {
		ctx, cancel := context.WithTimeout(context.Background(), StoreTimeout+waitStep)
		context.AfterFunc(ctx, cancel) // it is never ended early, because others may have it
		w.ctx, w.young = ctx, now.Add(waitStep)
	}
	return w.ctx
}

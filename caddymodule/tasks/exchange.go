package tasks

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// exchange is a request that may submit a task, and its answer.
type exchange struct {
	handler *Handler

	// ctx is the context of the request to Fotor. It goes on when that of the client has
	// ended, so that the task becomes known that Fotor makes of it.
	ctx    context.Context //nolint:containedctx // it belongs to the request
	client context.Context //nolint:containedctx // of the client's request
	cancel context.CancelFunc
	stop   func() bool

	// gateway keeps the inbox open for what will be learnt, should a reload close it
	// meanwhile; nil if the handler did not run when the exchange began.
	gateway control.Gateway
}

// begin begins an exchange. It reports false if its task would never be asked for.
func (h *Handler) begin(client context.Context) (*exchange, bool) {
	x := &exchange{handler: h, client: client}
	var err error
	switch x.gateway, err = control.Open(h.Name); {
	case err != nil:
		x.gateway = nil // it may run once the answer has come
	case !x.gateway.Asking():
		x.close()
		h.warnNotAsking()
		return nil, false
	}
	x.ctx, x.cancel = context.WithCancel(context.WithoutCancel(client))
	x.stop = context.AfterFunc(client, x.clientGone)
	return x, true
}

// warnNotAsking says once that no task is learnt.
func (h *Handler) warnNotAsking() {
	if !h.warned.Swap(true) {
		h.logger.Warn("tasks are not learnt, because Fotor would never be asked for them",
			zap.String("handler", h.Name), zap.Error(control.ErrNotAsking))
	}
}

// clientGone ends the exchange with Fotor a while after the client has gone.
func (x *exchange) clientGone() {
	if errors.Is(x.client.Err(), context.DeadlineExceeded) { // it is the server that ends it
		x.cancel()
		return
	}
	timer := time.NewTimer(x.handler.linger)
	defer timer.Stop()
	select {
	case <-timer.C:
		x.cancel()
	case <-x.ctx.Done():
	}
}

// nothingToLearn has the exchange with Fotor end together with that of the client, and
// the inbox close when it likes: an answer that streams may take hours.
func (x *exchange) nothingToLearn() {
	before, now := x.stop, context.AfterFunc(x.client, x.cancel)
	x.stop = func() bool { return before() && now() }
	x.close()
}

// end releases what the exchange has needed.
func (x *exchange) end() {
	x.stop()
	x.cancel()
	x.close()
}

func (x *exchange) close() {
	if x.gateway == nil {
		return
	}
	x.handler.close(x.gateway)
	x.gateway = nil
}

// close ends the use of a fotor_webhook handler.
func (h *Handler) close(gateway control.Gateway) {
	if err := gateway.Close(); err != nil {
		h.logger.Error("after the last request", zap.String("handler", h.Name), zap.Error(err))
	}
}

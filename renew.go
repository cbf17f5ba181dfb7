package fotorwebhook

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// renew opens the inbox of a station anew if it is broken, and brings whoever
// uses the station to the new one: the configs that run, in case the one that is
// being loaded fails after all, and the requests that come from now on. It does
// nothing if the handler's inbox is not open, or works.
//
// The broken inbox is closed first: its locks would be in the way, and what it
// has in memory must not get into the new file. So an inbox that cannot be
// opened stays broken, and the next reload tries again.
func (p *stationPool) renew(h *Handler) error {
	p.mu.Lock()
	old := p.open[h.key]
	p.mu.Unlock()
	if old == nil {
		return nil
	}
	breakable, ok := old.inbox.(inbox.Breakable)
	if !ok || breakable.Broken() == nil || !old.hold() {
		return nil
	}
	defer old.give(h)
	cause := breakable.Broken()
	old.stop(h)
	if err := old.inbox.Close(); err != nil {
		h.logger.Error("closing the broken inbox", zap.String("inbox", h.key), zap.Error(err))
	}
	if !old.attached() { // only requests have kept it open: the next one is opened as ever
		p.forget(old)
		return nil
	}
	st, err := openStation(h)
	if err != nil {
		return errors.Join(err, cause)
	}
	defer st.give(h)
	if err := st.takeOver(h, old); err != nil {
		return err
	}
	p.mu.Lock()
	p.open[h.key] = st
	p.mu.Unlock()
	h.logger.Warn("the broken inbox was opened anew: callbacks are taken again", zap.String("inbox", h.key), zap.NamedError("broken", cause))
	return nil
}

// attached reports whether a config uses the station.
func (st *station) attached() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.attachments) > 0
}

// give gives back what hold took, and tells if that fails.
func (st *station) give(h *Handler) {
	if err := st.drop(); err != nil {
		h.logger.Error("after the inbox was opened anew", zap.Error(err))
	}
}

// stop ends the deliveries of a broken inbox. What is settled cannot be
// recorded any more: those events are delivered again.
func (st *station) stop(h *Handler) {
	st.mu.Lock()
	dispatcher, sharing := st.dispatcher, st.sharing
	st.mu.Unlock()
	if dispatcher == nil {
		return
	}
	sharing.end()
	ctx, cancel := context.WithTimeout(context.Background(), h.grace)
	defer cancel()
	if err := dispatcher.Stop(ctx); err != nil {
		h.logger.Error("deliveries of the broken inbox that were under way", zap.Error(err))
	}
}

// takeOver brings the attachments of the broken station to this one, and lets
// deliveries go on with the settings that were in force.
func (st *station) takeOver(h *Handler, broken *station) error {
	st.byHand.Lock()
	defer st.byHand.Unlock()
	held, err := st.inbox.Hold(h.ctx)
	unknown := err != nil && st.mayBeAway(h)
	if err != nil && !unknown {
		return errors.Join(fmt.Errorf("reading whether deliveries are held by hand: %w", err), st.inbox.Close())
	}
	broken.mu.Lock()
	defer broken.mu.Unlock()
	st.mu.Lock()
	defer st.mu.Unlock()
	st.attachments = broken.attachments
	broken.attachments = nil
	newest := st.attachments[len(st.attachments)-1]
	st.begin(newest.handler, held, unknown)
	st.use(newest)
	st.holders.Add(int64(len(st.attachments)))
	broken.holders.Add(-int64(len(st.attachments))) // one is renew's
	attached.move(st.attachments, st)
	return nil
}

// move brings attachments to another station.
func (r *registry) move(atts []*attachment, to *station) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, att := range atts {
		att.station = to
		att.handler.link.station.Store(to)
	}
}

package gateway

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// keep stores a final callback until it is confirmed. Its event has the id then that is
// answered: its own, or that of a stored one that tells the same.
func (j *Journal) keep(ctx context.Context, g *Gateway, e *inbox.Event, source netip.Addr, body []byte) (duplicate bool, err error) {
	known, err := g.toldByAPI(ctx, e)
	if err != nil {
		return false, err
	}
	if known != "" {
		e.ID = known
		return true, nil
	}
	kept, err := callback.Keep(e, body, source)
	if err != nil {
		return false, err
	}
	done, err := g.roomToConfirm(ctx, kept)
	if err != nil {
		return false, err
	}
	defer done()
	if _, err := g.inbox.Queue(ctx, inbox.ConfirmDestination); err != nil {
		return false, err
	}
	return j.put(ctx, g, kept, source)
}

// toldByAPI returns the id of an event that was asked for and tells the same outcome as a
// called one, "" if there is none: Fotor need not be asked again.
func (g *Gateway) toldByAPI(ctx context.Context, e *inbox.Event) (id string, err error) {
	records, _, err := g.inbox.List(ctx, inbox.Filter{TaskID: e.TaskID}, inbox.Page{Limit: inbox.MaxOutcomes})
	if err != nil {
		return "", fmt.Errorf("looking for events of the same task: %w", err)
	}
	for _, r := range records {
		if r.Event.Status == e.Status && callback.AskedFor(r.Event.Body) && callback.SameOutcome(r.Event.Body, e.Body) {
			return r.Event.ID, nil
		}
	}
	return "", nil
}

package gateway

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

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
	if err := g.roomToConfirm(ctx); err != nil {
		return false, err
	}
	kept, err := callback.Keep(e, body, source)
	if err != nil {
		return false, err
	}
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

const (
	// fullnessFor is how long the size of the inbox is taken to be as it was.
	fullnessFor = 500 * time.Millisecond

	// fullAt is the percentage of the inbox's size that callbacks which wait to be confirmed
	// may fill: what becomes of them needs room before they are removed.
	fullAt = 95
)

// fullness is whether the inbox has room for callbacks that wait to be confirmed.
type fullness struct {
	mu   sync.Mutex
	full bool
	at   time.Time
}

// roomToConfirm returns inbox.ErrFull if most of the inbox is filled with callbacks that
// wait to be confirmed. Of others it makes room itself.
func (g *Gateway) roomToConfirm(ctx context.Context) error {
	f := &g.fullness
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.at) >= fullnessFor || now.Before(f.at) {
		stats, err := g.inbox.Stats(ctx)
		if err != nil {
			return err
		}
		waiting, pending := waitingIn(&stats), stats.Events[inbox.Pending]
		f.full = stats.MaxBytes > 0 && stats.Bytes > stats.MaxBytes/100*fullAt && waiting > pending/2
		f.at = now
	}
	if f.full {
		return fmt.Errorf("%w: more than %d %% of it are filled, mostly with callbacks that wait to be confirmed by Fotor", inbox.ErrFull, fullAt)
	}
	return nil
}

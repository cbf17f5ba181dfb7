package gateway

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/history"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// After a start the charts show what the inbox knows of the time before. That is read
// beside the work: a page at a time, with pauses four times as long as each took, and no
// more than rememberMost events.
const (
	rememberPage  = 200
	rememberMost  = 50_000
	rememberAgain = 30 * time.Second // after an error
)

// remember reads what happened before the start from the inbox of a handler, until ctx is
// done, or the handler has another inbox. It does not keep the inbox open meanwhile: one
// that is broken must be closed before it can be opened anew.
func (p *past) remember(ctx context.Context, handler string) {
	filter := inbox.Filter{Since: p.began.Add(-history.Week.Length()), Until: p.began}
	key, cursor, more := "", "", true
	var last time.Time
	for read := 0; more && read < rememberMost; {
		began := time.Now()
		records, next, err := p.page(ctx, handler, &key, filter, cursor)
		pause := 4 * time.Since(began)
		switch {
		case errors.Is(err, errOtherInbox), ctx.Err() != nil:
			p.end(last)
			return
		case err != nil:
			pause = rememberAgain // what is wrong is told by others, who ask more often
		default:
			p.add(records)
			read, cursor, more = read+len(records), next, next != ""
			if len(records) > 0 {
				last = records[len(records)-1].Event.ReceivedAt
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	if !more {
		last = time.Time{}
	}
	p.end(last)
}

var errOtherInbox = errors.New("the handler has another inbox now")

// page reads a page. The first time it sets the key of the inbox, which must stay the same.
func (p *past) page(ctx context.Context, handler string, key *string, f inbox.Filter, cursor string) ([]*inbox.Record, string, error) {
	_, g := attached.newest(handler)
	if g == nil || !g.hold() {
		return nil, "", errClosed
	}
	defer func() {
		if err := g.Drop(); err != nil {
			g.logger.Error("after reading what happened before the start", zap.Error(err))
		}
	}()
	if *key != "" && *key != g.key {
		return nil, "", errOtherInbox
	}
	*key = g.key
	return g.inbox.List(ctx, f, inbox.Page{Cursor: cursor, Limit: rememberPage})
}

// add counts events from before the start.
func (p *past) add(records []*inbox.Record) {
	for _, r := range records {
		received := r.Event.ReceivedAt
		p.callbacks.Happened(callbackAccepted, received, -1)
		for i := range r.Deliveries {
			d := &r.Deliveries[i]
			if d.SettledAt.IsZero() || d.SettledAt.After(p.began) {
				continue // it is counted when it ends
			}
			switch d.State {
			case inbox.Delivered:
				p.of(d.Destination).Happened(deliveryDelivered, d.SettledAt, d.SettledAt.Sub(received))
			case inbox.Dead:
				p.of(d.Destination).Happened(deliveryDead, d.SettledAt, -1)
			case inbox.Pending, inbox.Superseded, inbox.Skipped:
			}
		}
	}
}

// end notes that the inbox was read, and how far back; zero if all of it was.
func (p *past) end(from time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.complete, p.knownFrom = true, from
}

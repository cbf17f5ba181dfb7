package gateway

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Hold implements control.Gateway.
func (o *operated) Hold(ctx context.Context, destination, reason string, until time.Time) error {
	return o.change(destination, func(l *lane) error { return l.holdByHand(ctx, reason, until) })
}

// Resume implements control.Gateway.
func (o *operated) Resume(ctx context.Context, destination string) error {
	return o.change(destination, func(l *lane) error { return l.resume(ctx) })
}

// change calls f for the lane to a destination, or for all of them with "".
func (o *operated) change(destination string, f func(*lane) error) error {
	g := o.gateway
	g.changing.Lock()
	defer g.changing.Unlock()
	lanes := g.running()
	if destination != "" {
		if o.current().destination(destination) == nil {
			return fmt.Errorf("destination %.80q: expected %s: %w", destination, strings.Join(o.Destinations(), ", "), inbox.ErrNotFound)
		}
		lanes = []*lane{}
		if l := g.lane(destination); l != nil {
			lanes = append(lanes, l)
		}
	}
	if len(lanes) == 0 {
		return errClosed
	}
	return eachLane(lanes, f)
}

// holdByHand holds the deliveries. The hold is stored before they stop: one that cannot
// be stored would not survive a restart.
func (l *lane) holdByHand(ctx context.Context, reason string, until time.Time) error {
	l.byHand.Lock()
	defer l.byHand.Unlock()
	now := time.Now().UTC().Truncate(time.Microsecond)
	before, err := l.queue.Hold(ctx)
	if err != nil {
		return err
	}
	hold := inbox.Hold{Since: now, Until: until.UTC().Truncate(time.Microsecond), Reason: reason}
	if before.InForce(now) {
		hold.Since = before.Since
	}
	if err := l.queue.SetHold(ctx, hold); err != nil {
		return err
	}
	l.known = hold
	l.dispatcher.Pause(hold)
	return nil
}

// resume ends a hold by hand. A destination in trouble is tried at once.
func (l *lane) resume(ctx context.Context) error {
	l.byHand.Lock()
	defer l.byHand.Unlock()
	now := time.Now().UTC()
	hold, err := l.queue.Hold(ctx)
	if err != nil {
		return err
	}
	if hold.InForce(now) {
		hold.Ended = now
		if err := l.queue.SetHold(ctx, hold); err != nil {
			return err
		}
		l.known = hold
	}
	l.dispatcher.Resume()
	return nil
}

// Holds implements control.Gateway.
func (o *operated) Holds() control.Holds {
	now := time.Now()
	all := control.Holds{Holds: []control.Hold{}, Destinations: o.Destinations()}
	for i, l := range o.gateway.running() {
		all.Holds = append(all.Holds, l.holds(now)...)
		all.UnderWay += l.dispatcher.UnderWay()
		if p := l.pressure(); i == 0 || underMore(p, all.Pressure) {
			all.Pressure = p
		}
	}
	return all
}

package sqlite

import (
	"context"
	"maps"
	"slices"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// drawDelivery draws one of the destinations of the event, or "".
func (e *modelEvent) drawDelivery(t *rapid.T) string {
	return rapid.SampledFrom(append([]string{""}, slices.Sorted(maps.Keys(e.at))...)).Draw(t, "delivery")
}

func (m *model) replay(t *rapid.T) {
	e := m.draw(t, anyEvent)
	if e == nil {
		return
	}
	destination := e.drawDelivery(t)
	err := m.inbox.Replay(context.Background(), e.event.ID, destination)
	if len(e.at) == 0 {
		require.ErrorIs(t, err, inbox.ErrState)
		return
	}
	require.NoError(t, err)
	all := e.state() != inbox.Pending && e.state() != inbox.Dead
	for name, d := range e.at {
		if name == destination || destination == "" && (all || d.state == inbox.Pending || d.state == inbox.Dead) {
			d.replay()
		}
	}
	m.tidy()
}

func (d *modelDelivery) replay() {
	switch {
	case d.state != inbox.Pending:
		*d = d.again("")
	case d.lease == nil:
		d.later = false
	}
}

// again is the delivery, or one that takes over its attempts, when it is to be made again.
func (d *modelDelivery) again(from string) modelDelivery {
	next := modelDelivery{attempts: d.attempts, replays: slices.Clone(d.replays), from: from}
	if n := len(next.replays); n > 0 && next.replays[n-1] == d.attempts {
		next.replays = next.replays[:n-1]
	}
	next.replays = append(next.replays, d.attempts)
	return next
}

func (m *model) move(t *rapid.T) {
	e := m.draw(t, anyEvent)
	if e == nil {
		return
	}
	from, to := e.drawDelivery(t), drawDestination(t)
	leaves := e.at[from]
	if leaves != nil && (from == to || leaves.state != inbox.Pending && leaves.state != inbox.Dead) {
		leaves = nil
	}
	err := m.inbox.Move(context.Background(), e.event.ID, from, to)
	if leaves != nil && leaves.lease != nil {
		require.ErrorIs(t, err, inbox.ErrState)
		return
	}
	require.NoError(t, err)
	if leaves != nil {
		delete(e.at, from)
	}
	if d := e.at[to]; d != nil {
		d.replay()
	} else {
		source, name := &modelDelivery{}, ""
		if leaves != nil {
			source, name = leaves, from
		}
		added := source.again(name)
		added.new = true
		e.at[to] = &added
	}
	m.tidy()
}

func (m *model) purge(t *rapid.T) {
	e := m.draw(t, anyEvent)
	if e == nil {
		return
	}
	destination := e.drawDelivery(t)
	err := m.inbox.Purge(context.Background(), e.event.ID, destination)
	for name, d := range e.at {
		if d.lease != nil && (destination == "" || destination == name) {
			require.ErrorIs(t, err, inbox.ErrState)
			return
		}
	}
	require.NoError(t, err)
	if delete(e.at, destination); destination == "" || len(e.at) == 0 {
		m.events = slices.DeleteFunc(m.events, func(x *modelEvent) bool { return x == e })
	}
	m.tidy()
}

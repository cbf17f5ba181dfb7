package control

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// waitingInbox has events by their ids, and notes what is done to them.
type waitingInbox struct {
	inbox.Inbox
	events map[string]inbox.Status
	done   []string
}

func (w *waitingInbox) Get(_ context.Context, id string) (*inbox.Record, error) {
	status, there := w.events[id]
	if !there {
		return nil, fmt.Errorf("event %s: %w", id, inbox.ErrNotFound)
	}
	return &inbox.Record{Event: &inbox.Event{ID: id, Status: status}}, nil
}

func (w *waitingInbox) List(context.Context, inbox.Filter, inbox.Page) ([]*inbox.Record, string, error) {
	return nil, "", nil // none is of the task
}

func (w *waitingInbox) do(ctx context.Context, what, id, destination string) error {
	if _, err := w.Get(ctx, id); err != nil {
		return err
	}
	w.done = append(w.done, what+" "+id+" "+destination)
	return nil
}

func (w *waitingInbox) Replay(ctx context.Context, id, destination string) error {
	return w.do(ctx, "replay", id, destination)
}

func (w *waitingInbox) Purge(ctx context.Context, id, destination string) error {
	return w.do(ctx, "purge", id, destination)
}

func (w *waitingInbox) Move(ctx context.Context, id, from, to string) error {
	return w.do(ctx, "move", id, from+to)
}

type gatewayOf struct {
	Gateway
	in inbox.Inbox
}

func (g gatewayOf) Inbox() inbox.Inbox { return g.in }

// The caller of a callback that is not confirmed yet got the id of the event that will be
// made of it.
func TestAWaitingCallbackIsFoundByTheIDThatItsCallerGot(t *testing.T) {
	id, other := inbox.NewID("task", []byte("a")), inbox.NewID("task", []byte("b"))
	waiting, err := inbox.UnconfirmedID(id)
	require.NoError(t, err)
	in := &waitingInbox{events: map[string]inbox.Status{waiting: inbox.Unconfirmed}}
	g, ctx := gatewayOf{in: in}, t.Context()

	require.NoError(t, Again(ctx, g, id, "", ""))
	require.NoError(t, Purge(ctx, g, id, "x"))
	require.Equal(t, []string{"replay " + waiting + " ", "purge " + waiting + " x"}, in.done)
	require.ErrorIs(t, Again(ctx, g, id, "", "y"), inbox.ErrState)
	require.ErrorIs(t, Again(ctx, g, other, "", ""), inbox.ErrNotFound)
	require.ErrorIs(t, Purge(ctx, g, "no id", ""), inbox.ErrNotFound)

	found, err := FindEvents(ctx, in, id)
	require.NoError(t, err)
	require.Len(t, found.Events, 1)
	require.Equal(t, waiting, found.Events[0].ID)

	in.done, in.events[id] = nil, inbox.Completed
	require.NoError(t, Again(ctx, g, id, "", ""))
	require.NoError(t, Again(ctx, g, id, "", "y"))
	require.Equal(t, []string{"replay " + id + " ", "move " + id + " y"}, in.done, "the event itself, once there is one")
}

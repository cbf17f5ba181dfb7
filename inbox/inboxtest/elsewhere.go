package inboxtest

import (
	"context"
	"testing"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// elsewhere is an inbox whose events go to another destination than the default. To its
// users that one looks like the default.
type elsewhere struct {
	inbox.Inbox
	inbox.Tracker
}

// otherDestination is where the events of elsewhere go.
const otherDestination = "elsewhere"

// Elsewhere makes a suite use another destination than the default: all that it puts
// goes there, and the queue that it gets is that one's.
func Elsewhere(factory Factory) Factory {
	return func(t testing.TB) Storage {
		storage := factory(t)
		open, crash, allowNewest := storage.Open, storage.Crash, storage.AllowNewest
		storage.Open = func(t testing.TB, p inbox.Policy) inbox.Inbox {
			in := open(t, p)
			tracker, _ := in.(inbox.Tracker)
			return elsewhere{in, tracker}
		}
		if crash != nil {
			storage.Crash = func(t testing.TB, in inbox.Inbox) { crash(t, in.(elsewhere).Inbox) }
		}
		if allowNewest != nil {
			storage.AllowNewest = func(t testing.TB, in inbox.Inbox) { allowNewest(t, in.(elsewhere).Inbox) }
		}
		return storage
	}
}

// Put stores the event for the other destination.
func (e elsewhere) Put(ctx context.Context, event *inbox.Event) (string, error) {
	sent := *event
	sent.Destinations = []string{otherDestination}
	return e.Inbox.Put(ctx, &sent)
}

// Queue returns the queue of the other destination.
func (e elsewhere) Queue(ctx context.Context, _ string) (inbox.Queue, error) {
	return e.Inbox.Queue(ctx, otherDestination)
}

package sqlite

import (
	"context"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// probeRoom is about the size of the event for which Probe looks for room, in bytes.
const probeRoom = 4<<10 + eventOverhead

// proof is the request to prove that an event could be stored.
type proof struct{ request }

// Probe commits a transaction that changes nothing. Like every transaction it
// writes the row of meta to the disk.
func (s *store) Probe(ctx context.Context) error {
	return s.submit(&proof{request: newRequest(ctx)})
}

func (p *proof) apply(t *tx) error {
	p.err = nil
	if t.indexHasRoom(&p.request) && t.hasRoom(&p.request, probeRoom) {
		t.grown -= probeRoom // nothing of it is written
	}
	return nil
}

// grows is true, so that the room in reserve is restored though no event arrives: a
// load balancer that asks whether the inbox is ready sends none meanwhile.
func (p *proof) grows() bool { return true }

// Interface guard
var _ inbox.Prober = (*store)(nil)

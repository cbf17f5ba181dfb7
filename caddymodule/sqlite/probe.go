package sqlite

import (
	"context"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// probeRoom is about the size of the event for which Probe looks for room, in bytes.
const probeRoom = 4<<10 + eventOverhead

// proof is the request to prove that an event could be stored.
type proof struct{ request }

// Probe commits a transaction that writes to the disk and changes nothing.
func (s *store) Probe(ctx context.Context) error {
	return s.submit(&proof{request: newRequest(ctx)})
}

func (p *proof) apply(t *tx) error {
	p.err = nil
	if t.indexHasRoom(&p.request) && t.hasRoom(&p.request, probeRoom) {
		t.grown -= probeRoom // nothing of it is written
		return t.touch()
	}
	return nil
}

// touch writes the file's first page as it is. To write a row as it is, such as that of
// meta, would not do: SQLite leaves out a page that stays the same.
func (t *tx) touch() error { return t.c.exec(setApplicationID) }

// grows is true, so that the room in reserve is restored though no event arrives: a
// load balancer that asks whether the inbox is ready sends none meanwhile.
func (p *proof) grows() bool { return true }

// Interface guard
var _ inbox.Prober = (*store)(nil)

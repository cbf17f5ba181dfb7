package nats

import (
	"fmt"
	"time"

	"go.uber.org/zap"
)

// silence is what is known of streams that do not answer although no event needs them to
// be stored. Callbacks are taken all the same.
type silence struct {
	since    time.Time // zero if all answer
	err      error     // nil until it has lasted
	loggedAt time.Time
}

// silenceOf says that a stream cannot be looked at.
func silenceOf(stream string, err error) error {
	if !isUnreachable(err) {
		return err
	}
	return fmt.Errorf("stream %s does not answer: too few of the servers that have it are there, or a disk is full; callbacks are stored all the same, and what needs that stream waits", stream)
}

// isSilent reports whether a stream did not answer at the last inspection.
func (h *health) isSilent() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.silence.since.IsZero()
}

// silent returns which streams have not answered for a while, or nil.
func (h *health) silent() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.silence.err
}

// noteSilence records which streams do not answer, nil if all do. It is told after the
// time in which the servers elect another leader.
func (s *store) noteSilence(err error) {
	if s.closed() || !s.link.isUp() {
		return
	}
	h := &s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	n := &h.silence
	switch {
	case err == nil:
		if n.err != nil {
			s.log.Info("all streams answer again")
		}
		*n = silence{}
	case n.since.IsZero():
		n.since = time.Now()
	case time.Since(n.since) >= s.publishTimeout():
		if n.err == nil || n.err.Error() != err.Error() || time.Since(n.loggedAt) >= logAgain {
			n.loggedAt = time.Now()
			s.log.Error("events are stored, but not every stream answers", zap.Error(err))
		}
		n.err = err
	}
}

package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

const (
	// streamBatch is how many notices are written at once, and streamPause how long a
	// stream then waits, so that one flush sends many notices.
	streamBatch = 512
	streamPause = 20 * time.Millisecond

	// streamPing is how often a stream sends a comment, to show that the connection works.
	streamPing = 15 * time.Second

	// streamSkipped is how many notices a stream leaves out at most before it sends the
	// position: without it a client that comes back would go on at its last notice, which
	// the feed may have forgotten by then.
	streamSkipped = control.FeedLength / 8

	// streamWrite is how long a write may wait for the client.
	streamWrite = 30 * time.Second

	// streamRetry asks the client to wait that long before it connects again.
	streamRetry = "retry: 1000\n"
)

// follow answers with a stream of server-sent events (WHATWG HTML, 9.2).
func (c *call) follow() error {
	p := c.params("kind", "destination", "task", "type", "last_event_id")
	wanted := selection{
		kinds: p.List("kind", control.NoticeKinds), destination: p.Destination("destination"),
		task: control.CutText(p.Text("task")), taskType: control.CutText(p.Text("type")),
	}
	after := c.r.Header.Get("Last-Event-ID")
	if after == "" {
		after = p.Text("last_event_id")
	}
	if err := p.failure(); err != nil {
		return err
	}
	follower, err := c.gateway.Feed().Follow(after)
	switch {
	case errors.Is(err, control.ErrTooManyFollowers), errors.Is(err, control.ErrFeedClosed):
		return failure(http.StatusServiceUnavailable, err)
	case err != nil:
		p.Fail("Last-Event-ID", "%w", err)
		return p.failure()
	}
	defer follower.Close()

	// A stream ends when its config is unloaded, so that the admin endpoint can be
	// closed. The client connects to the next one and goes on where it was.
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()

	s := &stream{w: c.w, out: http.NewResponseController(c.w), wanted: wanted}
	position := ""
	if after == "" {
		// so that a client misses nothing if the stream ends before the first notice
		position = "id: " + follower.Position() + "\n"
	}
	if err := s.begin(position); err != nil {
		c.logger.Debug("stream not begun", zap.Error(err))
		return nil
	}
	if err := s.run(ctx, follower); err != nil {
		c.logger.Debug("stream ended", zap.Error(err))
	}
	return nil
}

// selection is which notices a client has asked for.
type selection struct {
	kinds                       []string // empty means all
	destination, task, taskType string   // "" means any
}

func (s *selection) has(n *control.Notice) bool {
	switch {
	case n.Kind == control.Gap:
		return true
	case len(s.kinds) > 0 && !slices.Contains(s.kinds, n.Kind):
		return false
	case s.destination != "" && n.Destination != s.destination:
		return false
	case s.task != "" && n.TaskID != s.task:
		return false
	default:
		return s.taskType == "" || n.Type == s.taskType
	}
}

type stream struct {
	w      http.ResponseWriter
	out    *http.ResponseController
	wanted selection
	buf    []byte

	pingAt  time.Time
	skipped int // notices left out since the last position was sent
}

func (s *stream) begin(position string) error {
	s.w.Header().Set("Content-Type", control.MediaEvents)
	s.w.WriteHeader(http.StatusOK)
	s.buf = append(s.buf, streamRetry+position+"\n"...)
	return s.flush()
}

// run writes notices until the client has gone or the feed has ended.
func (s *stream) run(ctx context.Context, follower *control.Follower) error {
	s.pingAt = time.Now().Add(streamPing)
	entries := make([]control.Entry, 0, streamBatch)
	for {
		waiting, cancel := context.WithDeadline(ctx, s.pingAt)
		var err error
		entries, err = follower.Next(waiting, entries[:0], streamBatch)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !errors.Is(err, context.DeadlineExceeded):
			return err
		}
		for i := range entries {
			s.add(&entries[i])
		}
		s.addPosition(follower.Position())
		if err := s.flush(); err != nil {
			return err
		}
		if len(entries) < streamBatch && !sleep.For(ctx, streamPause) {
			return ctx.Err()
		}
	}
}

// addPosition adds a ping and the id after which a client has to go on, if it is time for
// that: also while notices come all the time that this client has not asked for. An id
// without data is no event, but counts as the last one (WHATWG HTML, 9.2.6).
func (s *stream) addPosition(id string) {
	now := time.Now()
	if now.Before(s.pingAt) && s.skipped < streamSkipped {
		return
	}
	s.buf = append(s.buf, ": ping\nid: "...)
	s.buf = append(s.buf, id...)
	s.buf = append(s.buf, "\n\n"...)
	s.pingAt, s.skipped = now.Add(streamPing), 0
}

func (s *stream) add(e *control.Entry) {
	if !s.wanted.has(&e.Notice) {
		s.skipped++
		return
	}
	s.skipped = 0
	s.buf = append(s.buf, "event: "...)
	s.buf = append(s.buf, e.Kind...)
	s.buf = append(s.buf, "\nid: "...)
	s.buf = append(s.buf, e.ID...)
	s.buf = append(s.buf, "\ndata: "...)
	s.buf = e.AppendJSON(s.buf)
	s.buf = append(s.buf, "\n\n"...)
}

// flush sends what has been added.
func (s *stream) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	if err := s.out.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
		return err
	}
	_, err := s.w.Write(s.buf)
	s.buf = s.buf[:0]
	if err != nil {
		return err
	}
	return s.out.Flush()
}

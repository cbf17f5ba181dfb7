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

	// streamPing is the time after which a silent stream sends a comment, to show that
	// the connection works.
	streamPing = 15 * time.Second

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
}

func (s *stream) begin(position string) error {
	s.w.Header().Set("Content-Type", control.MediaEvents)
	s.w.WriteHeader(http.StatusOK)
	s.buf = append(s.buf, streamRetry+position+"\n"...)
	return s.flush()
}

// run writes notices until the client has gone or the feed has ended.
func (s *stream) run(ctx context.Context, follower *control.Follower) error {
	entries := make([]control.Entry, 0, streamBatch)
	for {
		waiting, cancel := context.WithTimeout(ctx, streamPing)
		var err error
		entries, err = follower.Next(waiting, entries[:0], streamBatch)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			s.buf = append(s.buf, ": ping\n\n"...)
		case err != nil:
			return err
		}
		for i := range entries {
			s.add(&entries[i])
		}
		if err := s.flush(); err != nil {
			return err
		}
		if len(entries) < streamBatch && !sleep.For(ctx, streamPause) {
			return ctx.Err()
		}
	}
}

func (s *stream) add(e *control.Entry) {
	if !s.wanted.has(&e.Notice) {
		return
	}
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

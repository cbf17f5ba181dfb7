package fotorwebhook

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

const (
	// storeTimeout is how long a callback waits for the inbox. It is a guess at
	// what a caller waits, long enough for a busy disk and for a start.
	storeTimeout = 10 * time.Second

	// bodyBudget bounds the memory that one handler's callbacks take while they
	// wait for the inbox. Beyond it callbacks wait before they are read.
	bodyBudget = 64 << 20
)

// ServeHTTP takes one callback from request to answer.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	start := time.Now()
	answer := h.receive(r, start)
	h.metrics.answered(answer.outcome, time.Since(start))
	return answer.write(w)
}

// receive judges and stores the callback and says what to answer.
func (h *Handler) receive(r *http.Request, now time.Time) answer {
	// A replayed 0-RTT request would be a forged one (RFC 8470): its address is
	// not proven before the handshake is.
	if r.TLS != nil && !r.TLS.HandshakeComplete {
		return answerTooEarly
	}
	h.proxies.check(r, h.logger)
	source, err := h.whitelist.judge(r)
	if err != nil {
		h.refusals.Warn("caller refused",
			zap.String("client_ip", clientAddress(r)),
			zap.String("peer", r.RemoteAddr),
			zap.Error(err))
		h.desk.refusals.add(clientAddress(r), r.RemoteAddr, err.Error(), now.UTC())
		return answerForbidden
	}
	if r.Method != http.MethodPost {
		return answerMethod
	}
	if r.ContentLength > h.MaxBody {
		return answerTooLarge(h.MaxBody)
	}

	// from here on the request keeps its inbox open: it may outlive the handler
	st, err := h.hold(r.Context())
	if err != nil {
		h.logger.Error("callback not read", zap.Stringer("source_ip", source), zap.Error(err))
		return answerUnavailable
	}
	defer h.drop(st)

	room := h.MaxBody
	if r.ContentLength >= 0 {
		room = r.ContentLength
	}
	if err := h.makeRoom(r.Context(), room); err != nil {
		h.logger.Error("callback not read: too many are waiting to be stored", zap.Error(err))
		return answerUnavailable
	}
	defer h.budget.Release(room)

	body := bodies.Get().(*bytes.Buffer)
	defer putBody(body)
	if refusal, ok := h.read(r, body); !ok {
		return refusal
	}
	// what has arrived is stored, also for a caller who does not wait for it
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), storeTimeout)
	defer cancel()
	if successor := h.successor(st); successor != nil {
		defer h.drop(successor)
		st = successor
	}
	return h.take(ctx, st, r, received{body: body.Bytes(), source: source, receivedAt: now})
}

func (h *Handler) drop(st *station) {
	if err := st.drop(); err != nil {
		h.logger.Error("after the last request", zap.Error(err))
	}
}

// makeRoom waits until the budget has room for a body of that many bytes.
func (h *Handler) makeRoom(ctx context.Context, size int64) error {
	if h.budget.TryAcquire(size) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return h.budget.Acquire(ctx, size)
}

// received is what arrived from a whitelisted address.
type received struct {
	body       []byte
	source     netip.Addr
	receivedAt time.Time
}

// take judges the callback and stores it, as an event or in quarantine.
func (h *Handler) take(ctx context.Context, st *station, r *http.Request, c received) answer {
	parsed, refused := judge(r.Header, c.body, h.rules)
	if refused != nil {
		return h.quarantine(ctx, st, c, refused)
	}
	event := parsed.Event(c.receivedAt, c.source)
	h.noteTrace(r, event)
	duplicate, err := h.put(ctx, st, event, c.source)
	if err != nil {
		h.logger.Error("callback not stored", eventFields(event, zap.Error(err))...)
		return answerUnavailable
	}
	if line := h.logger.Check(zap.InfoLevel, "callback accepted"); line != nil {
		line.Write(eventFields(event,
			zap.Stringer("source_ip", c.source),
			zap.Bool("duplicate", duplicate),
			zap.Duration("took", time.Since(c.receivedAt)))...)
	}
	return answerAccepted(event.ID, duplicate)
}

// quarantine keeps what cannot be taken as a callback, so that a change on
// Fotor's side loses nothing, and gives the refusal back.
func (h *Handler) quarantine(ctx context.Context, st *station, c received, refused *answer) answer {
	problems := refused.grounds()
	fields := []zap.Field{
		zap.Int("status", refused.status),
		zap.Stringer("source_ip", c.source),
		zap.Int("size", len(c.body)),
		zap.Array("problems", logProblems(problems)),
	}
	var id int64
	if *h.Quarantine > 0 {
		suspect := suspectOf(c, refused)
		if err := st.inbox.Quarantine(ctx, suspect); err != nil {
			h.logger.Error("invalid callback could not be kept in quarantine", append(fields, zap.Error(err))...)
			return *refused
		}
		id = suspect.ID
		fields = append(fields, zap.Int64("quarantine_id", id))
	}
	h.tellQuarantined(id, c.source, refused.title, len(problems))
	h.logger.Warn("invalid callback", fields...)
	return *refused
}

// read fills the buffer with the request's body. If it cannot, it returns the
// answer to give.
func (h *Handler) read(r *http.Request, buf *bytes.Buffer) (refusal answer, ok bool) {
	_, err := buf.ReadFrom(io.LimitReader(r.Body, h.MaxBody+1))
	tooLarge, limited := errors.AsType[*http.MaxBytesError](err)
	switch {
	case limited: // a request_body directive before us has a limit of its own
		return answerTooLarge(tooLarge.Limit), false
	case errors.Is(err, os.ErrDeadlineExceeded):
		return answerTimeout, false
	case err != nil:
		h.logger.Warn("callback broke off", zap.String("client_ip", clientAddress(r)), zap.Error(err))
		return answerBroken, false
	case int64(buf.Len()) > h.MaxBody:
		return answerTooLarge(h.MaxBody), false
	}
	return answer{}, true
}

// clientAddress is the caller's address as Caddy determined it, for the log.
func clientAddress(r *http.Request) string {
	clientIP, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return clientIP
}

// bodies reuses the buffers that bodies are read into.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooledBuffer keeps a few large bodies from pinning their memory for ever.
const maxPooledBuffer = 64 << 10

func putBody(buf *bytes.Buffer) {
	if buf.Cap() > maxPooledBuffer {
		return
	}
	buf.Reset()
	bodies.Put(buf)
}

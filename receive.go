package fotorwebhook

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/body"
	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/logfield"
)

// ServeHTTP takes one callback from request to answer.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	start := time.Now()
	return h.reply(w, r, h.receive(w, r, start), start)
}

// reply counts the answer to a request that came at the given time, and sends it.
func (h *Handler) reply(w http.ResponseWriter, r *http.Request, a answer, since time.Time) error {
	h.metrics.answered(a.outcome, time.Since(since))
	h.gateway.Journal().Count(a.outcome)
	if a.early {
		return a.writeEarly(w, r, since)
	}
	return a.write(w)
}

// receive judges and stores the callback and says what to answer.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request, now time.Time) answer {
	source, refusal, ok := h.admit(r, now)
	if !ok {
		return refusal.whileSending()
	}

	// from here on the request keeps its inbox open: it may outlive the handler
	gw, err := h.gateway.Hold(r.Context())
	if err != nil {
		h.logger.Error("callback not read", zap.Stringer("source_ip", source), zap.Error(err))
		return h.unavailable(err).whileSending()
	}
	defer h.drop(gw)

	b, err := h.readBody(w, r, now)
	defer b.Free()
	if err != nil {
		return h.unread(source, now, b, err)
	}
	// what has arrived is stored, also for a caller who does not wait for it
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), gateway.StoreTimeout)
	defer cancel()
	if successor := h.gateway.Successor(gw); successor != nil {
		defer h.drop(successor)
		gw = successor
	}
	return h.take(ctx, gw, r, received{body: b.Data(), source: source, receivedAt: now})
}

// readBody reads the body of a callback that came at the given time. What it
// returns must be freed.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request, since time.Time) (*body.Body, error) {
	b, err := body.Read(w, r, body.Options{
		Room: &h.bodies.room, Wait: gateway.StoreTimeout, Max: h.MaxBody, Times: h.times, Since: since,
	})
	if b.Hidden() {
		h.bodies.hidden.Do(func() {
			h.logger.Warn("a handler before fotor_webhook hides the connection:" +
				" a body that stalls is not cut off by this handler, only by the server's own timeouts")
		})
	}
	return b, err
}

// admit judges what can be judged without the body. If the callback is refused,
// it returns the answer to give.
func (h *Handler) admit(r *http.Request, now time.Time) (source netip.Addr, refusal answer, ok bool) {
	// A replayed 0-RTT request would be a forged one (RFC 8470): its address is
	// not proven before the handshake is.
	if r.TLS != nil && !r.TLS.HandshakeComplete {
		return source, answerTooEarly, false
	}
	h.proxies.check(r, h.logger)
	source, err := h.judge(r)
	if err != nil {
		client, fields := clientAddress(r), []zap.Field{zap.String("peer", r.RemoteAddr), zap.Error(err)}
		if entry, found := h.proxies.doubt(r); found {
			client, fields = "", append(fields, zap.String("entry", logfield.Cut(entry))) // Caddy's choice may be anybody's
		}
		h.refusals.Warn("caller refused", append(fields, zap.String("client_ip", client))...)
		h.gateway.Journal().Refused(client, r.RemoteAddr, err.Error(), now.UTC())
		return source, answerForbidden, false
	}
	if r.Method != http.MethodPost {
		return source, answerMethod, false
	}
	if r.ContentLength > h.MaxBody {
		h.refusals.Warn("callback too large", zap.Stringer("source_ip", source),
			zap.Int64("size", r.ContentLength), zap.Int64("limit", h.MaxBody))
		return source, answerTooLarge(h.MaxBody), false
	}
	return source, answer{}, true
}

// unavailable is the answer to a callback that cannot be stored, and remembers
// why, for the operator only.
func (h *Handler) unavailable(err error) answer {
	h.gateway.Journal().Failed(err)
	return answerUnavailable
}

func (h *Handler) drop(gw *gateway.Gateway) {
	if err := gw.Drop(); err != nil {
		h.logger.Error("after the last request", zap.Error(err))
	}
}

// received is what arrived from a whitelisted address.
type received struct {
	body       []byte
	source     netip.Addr
	receivedAt time.Time
}

// take judges the callback and stores it, as an event or in quarantine.
func (h *Handler) take(ctx context.Context, gw *gateway.Gateway, r *http.Request, c received) answer {
	parsed, refused := judge(r.Header, c.body, h.rules)
	if refused != nil {
		return h.quarantine(ctx, gw, c, refused)
	}
	event := parsed.Event(c.receivedAt, c.source)
	h.noteTrace(r, event)
	duplicate, err := h.gateway.Put(ctx, gw, event, c.source)
	if err != nil {
		h.logger.Error("callback not stored", logfield.Event(event, zap.Error(err))...)
		return h.unavailable(err)
	}
	if line := h.logger.Check(zap.InfoLevel, "callback accepted"); line != nil {
		line.Write(logfield.Event(event,
			zap.Stringer("source_ip", c.source),
			zap.Bool("duplicate", duplicate),
			zap.Duration("took", time.Since(c.receivedAt)))...)
	}
	return answerAccepted(event.ID, duplicate)
}

// quarantine keeps what cannot be taken as a callback, so that a change on
// Fotor's side loses nothing, and gives the refusal back.
func (h *Handler) quarantine(ctx context.Context, gw *gateway.Gateway, c received, refused *answer) answer {
	problems := refused.grounds()
	fields := []zap.Field{
		zap.Int("status", refused.status),
		zap.Stringer("source_ip", c.source),
		zap.Int("size", len(c.body)),
		zap.Array("problems", logProblems(problems)),
	}
	kept := new(inbox.Suspect)
	if *h.Quarantine > 0 {
		suspect := suspectOf(c, refused)
		if err := gw.Inbox().Quarantine(ctx, suspect); err != nil {
			h.logger.Error("invalid callback could not be kept in quarantine", append(fields, zap.Error(err))...)
			h.gateway.Journal().Count(gateway.NotKept)
			h.gateway.Journal().Failed(err)
			return *refused
		}
		kept = suspect
		fields = append(fields, zap.Int64("quarantine_id", kept.ID), zap.Int64("count", kept.Count))
	}
	if h.gateway.Journal().Quarantined(kept, c.source, refused.title, len(problems)) {
		h.logger.Warn("invalid callback", fields...)
	}
	return *refused
}

// unread tells the operator why a body could not be read, and says what to
// answer. The lines are sampled: a proxy that stalls breaks off many at once.
func (h *Handler) unread(source netip.Addr, since time.Time, b *body.Body, err error) answer {
	tooLarge, limited := errors.AsType[*http.MaxBytesError](err)
	fields := []zap.Field{
		zap.Stringer("source_ip", source),
		zap.Int("received", len(b.Data())),
		zap.Duration("took", time.Since(since)),
	}
	switch {
	case limited: // also by a request_body directive before us
		h.refusals.Warn("callback too large", append(fields, zap.Int64("limit", tooLarge.Limit))...)
		return answerTooLarge(tooLarge.Limit).whileSending()
	case errors.Is(err, body.ErrSlow), errors.Is(err, body.ErrCrowded):
		h.refusals.Warn("callback too slow", append(fields, zap.Error(err))...)
		return answerTimeout(err).whileSending()
	case errors.Is(err, body.ErrNoRoom):
		h.refusals.Error("callback not read", append(fields, zap.Error(err))...)
		return h.unavailable(err).whileSending()
	default:
		h.refusals.Warn("callback broke off", append(fields, zap.Error(err))...)
		return answerBroken.whileSending()
	}
}

// clientAddress is the caller's address as Caddy determined it, for the log.
func clientAddress(r *http.Request) string {
	clientIP, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return clientIP
}

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
	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/logfield"
	"github.com/fotor-webhook/caddy-fotor-webhook/placeholder"
)

// ServeHTTP takes one callback from request to answer. The steps are below, in the order
// in which they happen.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	start := time.Now()
	return h.reply(w, r, h.receive(w, r, start), start)
}

// received is what arrived from a whitelisted address.
type received struct {
	body       []byte
	source     netip.Addr
	receivedAt time.Time

	// event is that of a valid callback.
	event *inbox.Event

	// parsed is the callback whose memory may be used again when the event is stored; nil
	// if that of a large one, which is left to the garbage collector before.
	parsed *callback.Callback
}

// receive stores the callback of a request that came at the given time, and returns the
// answer to give.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request, now time.Time) answer {
	source, refusal, ok := h.admit(r, now)
	if !ok {
		return refusal.whileSending()
	}

	// the request holds its inbox open, because it may outlive the handler
	gw, err := h.gateway.Hold(r.Context())
	if err != nil {
		h.logger.Error("callback not read", zap.Stringer("source_ip", source), zap.Error(err))
		return h.unavailable(err).whileSending()
	}
	defer h.drop(gw)

	b, err := h.readBody(w, r, now)
	defer b.Free()
	if err != nil {
		return h.bodyFailed(source, now, b, err)
	}

	// from here on the callback is stored even if the caller hangs up
	c := received{body: b.Data(), source: source, receivedAt: now}
	refused, err := h.parse(r, &c)
	if err != nil {
		h.refusals.Error("callback not read", zap.Stringer("source_ip", source),
			zap.Int("received", len(c.body)), zap.Duration("took", time.Since(now)), zap.Error(err))
		return h.unavailable(err)
	}

	// the time to store it does not begin before it is parsed
	ctx := h.gateway.StoreContext()
	if successor := h.gateway.Successor(gw); successor != nil {
		defer h.drop(successor)
		gw = successor
	}
	if refused != nil {
		return h.quarantine(ctx, gw, c, refused) //nolint:contextcheck // as above
	}
	stored := h.store(ctx, gw, c) //nolint:contextcheck // as above
	if stored.event = c.event; stored.status == http.StatusOK {
		c.parsed.Free()
	} else {
		b.Keep() // the inbox may still make the event's former id
	}
	return stored
}

// parse makes the event of a callback, or returns the answer that refuses it. It fails if
// the body is large or medium, and does not get its turn.
func (h *Handler) parse(r *http.Request, c *received) (refused *answer, err error) {
	end, err := h.bodies.parsing(r.Context(), len(c.body))
	if err != nil {
		return nil, err
	}
	defer end()
	parsed, refused := validate(r.Header, c.body, h.rules)
	if refused != nil {
		return refused, nil
	}
	c.event = parsed.Event(callback.Arrival{At: c.receivedAt, Source: c.source, Compared: h.fotor != nil})
	h.tracers.AddTo(c.event, r)
	if len(c.body) <= largeBody {
		c.parsed = parsed
	}
	return nil, nil
}

// admit checks all that can be checked without the body. If the callback is refused, it
// returns the answer to give.
func (h *Handler) admit(r *http.Request, now time.Time) (source netip.Addr, refusal answer, ok bool) {
	// Early data may be a replay, and its address is not proven before the handshake
	// (RFC 8470).
	if r.TLS != nil && !r.TLS.HandshakeComplete {
		return source, answerTooEarly, false
	}
	h.proxies.warn(r, h.logger)
	source, err := h.checkCaller(r)
	if err != nil {
		client, fields := clientAddress(r), []zap.Field{zap.String("peer", r.RemoteAddr), zap.Error(err)}
		if entry, found := h.proxies.invalidEntry(r); found {
			client, fields = "", append(fields, zap.String("entry", logfield.Cut(entry))) // what Caddy took instead may be made up
		}
		h.refusals.Warn("caller refused", append(fields, zap.String("client_ip", client))...)
		h.gateway.Journal().Refused(client, r.RemoteAddr, err.Error(), now.UTC())
		return source, answerForbidden, false
	}
	if r.Method != http.MethodPost {
		return source, answerMethod, false
	}
	if r.ContentLength > h.MaxBody {
		return source, h.declaredTooLarge(r, source, h.MaxBody), false
	}
	return source, answer{}, true
}

// declaredTooLarge is the answer to a callback whose Content-Length is over the limit.
func (h *Handler) declaredTooLarge(r *http.Request, source netip.Addr, limit int64) answer {
	h.refusals.Warn("callback too large", zap.Stringer("source_ip", source),
		zap.Int64("size", r.ContentLength), zap.Int64("limit", limit))
	return answerTooLarge(limit)
}

// refuseLarge answers a callback that a request_body refused as too large.
func (h *Handler) refuseLarge(w http.ResponseWriter, r *http.Request, limit int64) error {
	start := time.Now()
	source, refusal, ok := h.admit(r, start)
	if ok {
		refusal = h.declaredTooLarge(r, source, limit)
	}
	return h.reply(w, r, refusal.whileSending(), start)
}

// readBody reads the body of a request that came at the given time. What it returns must
// be freed, also if there is an error.
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

// bodyFailed is the answer to a callback whose body could not be read. Its log lines are
// sampled: a proxy that stalls breaks off many bodies at once.
func (h *Handler) bodyFailed(source netip.Addr, since time.Time, b *body.Body, err error) answer {
	tooLarge, limited := errors.AsType[*http.MaxBytesError](err)
	fields := []zap.Field{
		zap.Stringer("source_ip", source),
		zap.Int("received", len(b.Data())),
		zap.Duration("took", time.Since(since)),
	}
	switch {
	case limited: // by max_body, or by a request_body directive before the handler
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

// store stores the event of a valid callback.
func (h *Handler) store(ctx context.Context, gw *gateway.Gateway, c received) answer {
	event := c.event
	duplicate, err := h.gateway.Put(ctx, gw, event, c.source, c.body)
	if err != nil {
		h.logger.Error("callback not stored", logfield.Event(event, zap.Error(err))...)
		return h.unavailable(err)
	}
	if line := h.logger.Check(zap.InfoLevel, "callback accepted"); line != nil {
		fields := logfield.Event(event,
			zap.Stringer("source_ip", c.source),
			zap.Bool("duplicate", duplicate),
			zap.Duration("took", time.Since(c.receivedAt)))
		if event.Destinations != nil && !duplicate { // a repeat goes where the first one went
			fields = append(fields, zap.Strings("destinations", event.Destinations))
		}
		line.Write(fields...)
	}
	return answerAccepted(event.ID, duplicate)
}

// quarantine keeps a callback that is not valid, so that a change of Fotor's format loses
// nothing, and returns the refusal.
func (h *Handler) quarantine(ctx context.Context, gw *gateway.Gateway, c received, refused *answer) answer {
	problems := refused.reasons()
	fields := []zap.Field{
		zap.Int("status", refused.status),
		zap.Stringer("source_ip", c.source),
		zap.Int("size", len(c.body)),
		logfield.Problems(problems),
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

// reply counts the answer to a request that came at the given time, makes it known to
// placeholders, and sends it.
func (h *Handler) reply(w http.ResponseWriter, r *http.Request, a answer, since time.Time) error {
	took := time.Since(since)
	h.metrics.Answered(a.outcome, took)
	h.gateway.Journal().Answered(a.outcome, took)
	placeholder.OfCallback(r, a.outcome, a.event)
	if a.early {
		return a.writeEarly(w, r, since)
	}
	return a.write(w)
}

// unavailable is the answer to a callback that cannot be stored. Only operators see why.
func (h *Handler) unavailable(err error) answer {
	h.gateway.Journal().Failed(err)
	return answerUnavailable
}

func (h *Handler) drop(gw *gateway.Gateway) {
	if err := gw.Drop(); err != nil {
		h.logger.Error("after the last request", zap.Error(err))
	}
}

// clientAddress returns the caller's address as Caddy determined it.
func clientAddress(r *http.Request) string {
	clientIP, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return clientIP
}

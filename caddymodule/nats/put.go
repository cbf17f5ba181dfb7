package nats

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// conflictWait is how long a Put waits before it looks again at a task that
// another one is just adding to.
const conflictWait = 2 * time.Millisecond

// tries is how often a Put asks within its time if it is not answered, but
// shortestTry apart at least.
const (
	tries  = 8
	minTry = 100 * time.Millisecond
)

// sideWorkTimeout bounds what is done at once so that others need not, while a
// caller or a delivery waits.
const sideWorkTimeout = time.Second

// Put stores the event.
func (s *store) Put(ctx context.Context, e *inbox.Event) (duplicateOf string, err error) {
	if _, _, err := e.Check(); err != nil {
		return "", err
	}
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return "", err
	}
	defer cancel()
	duplicateOf, err = s.put(bounded, e, nil)
	return duplicateOf, s.failed(ctx, err)
}

// put stores an event behind the last one of its task that it knows of. It
// begins with the guess that there is none, which is one way to the server and
// back. If the guess is wrong it learns which is the last, and tries again behind
// that: so no id is stored twice, and each event knows whether others are
// before it.
func (s *store) put(ctx context.Context, e *inbox.Event, origin *imported) (duplicateOf string, err error) {
	m, err := encodeEvent(s.subjects.event(e.ID), e)
	if err != nil {
		return "", err
	}
	if origin != nil {
		text, err := json.Marshal(origin)
		if err != nil {
			return "", err
		}
		m.Header.Set(headerImport, string(text))
	}
	p := pendingPut{store: s, event: e, message: m, origin: origin}
	began := time.Now()
	for wait := conflictWait; ; wait = min(2*wait, 50*time.Millisecond) {
		if err := s.health.problem(); err != nil {
			return "", err
		}
		known := p.after
		done, duplicateOf, err := p.try(ctx)
		if err != nil {
			return "", p.notStored(ctx, err, time.Since(began))
		}
		if done {
			return duplicateOf, nil
		}
		if p.after > known {
			continue
		}
		// Who was faster is not stored yet, or not known here yet; or there was
		// no answer.
		select {
		case <-ctx.Done():
			err := fmt.Errorf("event %s cannot be stored behind others of its task: %w", e.ID, ctx.Err())
			return "", p.notStored(ctx, err, time.Since(began))
		case <-time.After(wait):
		}
	}
}

// pendingPut is an event on its way into the stream.
type pendingPut struct {
	*store
	event       *inbox.Event
	message     *nats.Msg
	origin      *imported
	after       uint64 // number of the last event of its task that is known, 0 if none is
	final       bool   // a final one was accepted before
	mayBeStored bool   // a publish that was not answered may have stored it
	unanswered  bool   // the last try was not answered
}

// notStored says why the event was not stored after all tries. What keeps others
// from being stored too is remembered, so that they are not kept waiting for it.
func (p *pendingPut) notStored(ctx context.Context, err error, waited time.Duration) error {
	var api *jetstream.APIError
	switch {
	case p.unanswered && ctx.Err() != nil && waited > p.publishTimeout()*9/10 && p.link.isUp() && !p.closed():
		p.reportFailure(fmt.Errorf("NATS did not answer within %s: too few of the servers that have stream %s are there, or a disk is full", p.publishTimeout(), p.subjects.stream))
	case errors.Is(err, errResources), errors.As(err, &api) && api.ErrorCode != codeTooLarge:
		p.reportFailure(err)
	}
	return err
}

// try publishes the event behind the last one that is known, and learns which
// that is if it is another.
func (p *pendingPut) try(ctx context.Context) (done bool, duplicateOf string, err error) {
	if p.after > 0 {
		p.message.Header.Set(headerPrev, "1")
	}
	if p.final {
		p.message.Header.Set(headerFinal, "1")
	}
	var seq uint64
	p.unanswered = true
	err = p.tryOnce(ctx, func(ctx context.Context) (err error) {
		seq, err = p.publish(ctx, p.message, p.after, p.subjects.task(p.event.ID))
		return err
	})
	switch {
	case err == nil:
		p.noteNewest(seq)
		p.supersedeOutdated(ctx, &stored{Event: p.event, seq: seq, prev: p.after > 0, final: p.final, origin: p.origin})
		return true, "", nil
	case errors.Is(err, errUnanswered):
		p.mayBeStored = true
		p.health.inspectSoon()
		return false, "", nil
	case errors.Is(err, inbox.ErrFull):
		p.noteFull()
	}
	if !errors.Is(err, errConflict) {
		return false, "", err
	}
	var own *stored
	err = p.tryOnce(ctx, func(ctx context.Context) (err error) {
		own, err = p.look(ctx)
		return err
	})
	switch {
	case errors.Is(err, errUnanswered):
		return false, "", nil
	case err == nil && own == nil:
		p.unanswered = false // another of the task is just being stored
		return false, "", nil
	case err != nil:
		return false, "", err
	case p.mayBeStored && bytes.Equal(own.Body, p.event.Body): // which has the time of arrival in it
		p.supersedeOutdated(ctx, own)
		return true, "", nil
	}
	return true, own.ID, nil
}

// look learns which event of the task is the last one, and returns the one with
// the id, or the former one, if there is one. It reads no others: there may be many. That the id is
// not there counts only if whoever says so has the last one: then it has all that
// were before. Unless all of that is known, what was known stays.
func (p *pendingPut) look(ctx context.Context) (own *stored, err error) {
	m, err := p.last(ctx, p.subjects.stream, p.subjects.task(p.event.ID))
	if err != nil {
		return nil, err
	}
	if m == nil {
		p.after, p.final = 0, false
		return nil, nil //nolint:nilnil // there is none
	}
	subjects := []string{m.subject, p.subjects.event(p.event.ID)}
	if p.event.FormerID != "" {
		subjects = append(subjects, p.subjects.event(p.event.FormerID))
	}
	messages, err := p.latest(ctx, p.subjects.stream, subjects...)
	if err != nil {
		return nil, err
	}
	var last *stored
	for _, m := range messages {
		e, err := decodeEvent(m)
		if err != nil {
			return nil, err
		}
		if e.ID == p.event.ID || e.ID == p.event.FormerID {
			own = e
		}
		last = e // they are in order
	}
	if own == nil && last != nil && last.seq == m.seq {
		p.after, p.final = last.seq, last.final || last.Status.Final()
	}
	return own, nil
}

// errUnanswered says that the server did not answer: it may have died.
var errUnanswered = errors.New("no answer")

// tryOnce calls f for a part of the time that there is, and while the connection
// lasts. If that was not enough it waits for a connection, so that f can be
// tried again: when a server dies another one takes its place.
func (s *store) tryOnce(ctx context.Context, f func(context.Context) error) error {
	part, cancel := s.link.bound(ctx, max(s.publishTimeout()/tries, minTry))
	defer cancel()
	err := f(part)
	var api *jetstream.APIError
	switch {
	case err == nil, ctx.Err() != nil:
		return err
	case part.Err() != nil, errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, jetstream.ErrNoStreamResponse),
		errors.Is(err, errNoLeader), errors.As(err, &api) && api.Code == 503 && (api.ErrorCode == 0 || api.ErrorCode == codeNotAvailable):
		if err := s.awaitConnection(ctx); err != nil {
			return err
		}
		return fmt.Errorf("%w: %w", errUnanswered, err)
	default:
		return err
	}
}

// supersedeOutdated supersedes what an event that was just stored makes outdated. If
// that fails, whoever looks at the task next does it.
func (s *store) supersedeOutdated(ctx context.Context, e *stored) {
	ctx, cancel := context.WithTimeout(ctx, sideWorkTimeout)
	defer cancel()
	var err error
	switch {
	case e.origin != nil:
		err = s.recordOrigin(ctx, &member{stored: e})
	case !e.prev:
	case e.Status.Final() && !e.final:
		err = s.supersedeBefore(ctx, e)
	case !e.Status.Final() && e.final:
		err = s.supersedeLate(ctx, e)
	}
	if err != nil && !errors.Is(err, errConflict) {
		s.log.Debug("events in progress were not superseded at once", zap.String("task", e.TaskID), zap.Error(err))
	}
}

// supersedeLate supersedes an event in progress that came after a final one,
// unless that was removed.
func (s *store) supersedeLate(ctx context.Context, e *stored) error {
	events, err := s.events(ctx, e.ID)
	if err == nil && isFinal(events) {
		err = s.supersede(ctx, &member{stored: e})
	}
	return err
}

// supersedeBefore supersedes the events in progress that wait before a final one.
func (s *store) supersedeBefore(ctx context.Context, e *stored) error {
	task, err := s.task(ctx, e.ID)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(task, func(m *member) bool { return m.ID == e.ID }) {
		task = append(task, &member{stored: e}) // which a replica that lags does not know yet
	}
	outdated, _, _ := arrange(task, e.ID)
	for _, m := range outdated {
		if m.seq > e.seq {
			continue // whoever stored it does that
		}
		if err := s.supersede(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

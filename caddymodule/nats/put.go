package nats

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

// conflictWait is the pause before a Put looks again at a task to which another
// one is adding an event.
const conflictWait = 2 * time.Millisecond

// tries is how often a Put is tried within its time if there is no answer, but
// at least minTry apart.
const (
	tries  = 8
	minTry = 100 * time.Millisecond
)

// sideWorkTimeout bounds work that others would otherwise have to do later,
// while a caller or a delivery waits for it.
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
	if err := s.checkQueues(bounded, e); err != nil {
		return "", s.failed(ctx, err)
	}
	fresh, untracked := s.trackEvent(bounded, e)
	p := &pendingPut{store: s, event: e}
	duplicateOf, err = s.put(bounded, p)
	if err == nil {
		s.followEvent(bounded, e, fresh, p, duplicateOf)
		if untracked != nil {
			s.trackLate(bounded, e, untracked)
		}
	}
	return duplicateOf, s.failed(ctx, err)
}

// checkQueues returns an error unless each destination of the event has a queue.
func (s *store) checkQueues(ctx context.Context, e *inbox.Event) error {
	for _, name := range e.GoesTo() {
		if q := s.queueNamed(name); q == nil || q != s.home && !q.made.Load() {
			return fmt.Errorf("event %s cannot be stored for destination %q, which has no queue: %w", e.ID, name, inbox.ErrNotFound)
		}
	}
	if onlyDefault(e) || s.several.Load() {
		return nil
	}
	s.making.Lock() // it goes to no destination, and there never was another than the default
	defer s.making.Unlock()
	return s.makePlaces(ctx)
}

// put stores an event behind the last one of its task. It first assumes that
// there is none, which costs one round trip. If that is wrong, it reads the
// last one and tries again behind that. So no id is stored twice, and each
// event says whether there were others before it, and what they told.
func (s *store) put(ctx context.Context, p *pendingPut) (duplicateOf string, err error) {
	if p.message, err = encodeEvent(s.subjects.event(p.event.ID), p.event); err != nil {
		return "", err
	}
	if p.origin != nil {
		text, err := json.Marshal(p.origin)
		if err != nil {
			return "", err
		}
		p.message.Header.Set(headerImport, string(text))
	}
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
		// The faster one is not stored yet, or not visible here yet; or there
		// was no answer.
		if !sleep.For(ctx, wait) {
			err := fmt.Errorf("event %s cannot be stored behind others of its task: %w", p.event.ID, ctx.Err())
			return "", p.notStored(ctx, err, time.Since(began))
		}
	}
}

// pendingPut is an event that is being stored.
type pendingPut struct {
	*store
	event       *inbox.Event
	message     *nats.Msg
	moved       bool // it comes from another inbox
	origin      *imported
	after       uint64       // sequence of the last known event of its task, 0 if none is known
	final       bool         // a final event was stored before
	told        []inbox.Told // the last ones that have outcomes
	looked      bool         // after, final and told are what a look has found
	mayBeStored bool         // a publish without an answer may have stored it
	unanswered  bool         // the last try got no answer
}

// notStored returns the error after all tries. If the reason probably affects
// other events too, it is remembered, so that those fail at once.
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

// try publishes the event behind the last known one. After a conflict it finds
// out which the last one is.
func (p *pendingPut) try(ctx context.Context) (done bool, duplicateOf string, err error) {
	if p.after > 0 {
		p.message.Header.Set(headerPrev, "1")
	}
	if p.final {
		p.message.Header.Set(headerFinal, "1")
	}
	if len(p.told) > 0 {
		p.message.Header.Set(headerTold, encodeTold(p.told))
	} else {
		p.message.Header.Del(headerTold)
	}
	var seq uint64
	p.unanswered = true
	err = p.tryOnce(ctx, func(ctx context.Context) (err error) {
		if p.after == 0 && p.event.Revision > 1 && !p.moved {
			return errConflict // there has to be an event before it
		}
		seq, err = p.publish(ctx, p.message, p.after, p.subjects.task(p.event.ID))
		return err
	})
	switch {
	case err == nil:
		p.noteNewest(seq)
		e := &stored{Event: p.event, seq: seq, prev: p.after > 0, final: p.final, origin: p.origin}
		if !onlyDefault(p.event) {
			e.several, e.to = true, p.event.Destinations
		}
		p.supersedeOutdated(ctx, e)
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
		p.unanswered = false // another event of the task is just being stored
		duplicateOf, err = p.compare()
		return duplicateOf != "", duplicateOf, err
	case err != nil:
		return false, "", err
	case p.mayBeStored && bytes.Equal(own.Body, p.event.Body): // the body includes the time of arrival
		p.supersedeOutdated(ctx, own)
		return true, "", nil
	}
	return true, own.ID, nil
}

// look finds the last event of the task, and returns the one with the event's
// id or former id, if there is one. It reads no others but those that it is compared
// with, as there may be many. A replica without that id is only believed if it has the
// last event, because then it has all events before. Otherwise after, final and told stay
// as they are.
func (p *pendingPut) look(ctx context.Context) (own *stored, err error) {
	m, err := p.last(ctx, p.subjects.stream, p.subjects.task(p.event.ID))
	if err != nil {
		return nil, err
	}
	p.looked = false
	if m == nil {
		p.after, p.final, p.told, p.looked = 0, false, nil, true
		return nil, nil //nolint:nilnil // there is none
	}
	subjects := []string{m.subject, p.subjects.event(p.event.ID)}
	former, err := p.event.Former()
	if err != nil {
		return nil, err
	}
	formerID := ""
	if former != (inbox.RawID{}) {
		formerID = hex.EncodeToString(former[:])
		subjects = append(subjects, p.subjects.event(formerID))
	}
	if !p.event.Outcome.IsZero() {
		if subjects, err = p.appendTold(subjects, m); err != nil {
			return nil, err
		}
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
		if e.ID == p.event.ID || e.ID == formerID {
			own = e
		}
		last = e // they are in order
	}
	if own == nil && last != nil && last.seq == m.seq {
		p.after, p.final, p.told, p.looked = last.seq, last.final || last.Status.Final(), last.toldUpTo(), true
		if !p.event.Outcome.IsZero() {
			p.told = p.subjects.present(p.told, messages)
		}
	}
	return own, nil
}

// errUnanswered says that the server did not answer. It may have died.
var errUnanswered = errors.New("no answer")

// tryOnce calls f for a fraction of the time, and only while the connection
// lasts. If f gets no answer, tryOnce waits for a connection, so that f can be
// tried again: when a server dies another one takes over.
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

// supersedeOutdated supersedes the events that a new one outdates, at each of its
// destinations. If it fails, the next look at the task does so.
func (s *store) supersedeOutdated(ctx context.Context, e *stored) {
	to := []string{inbox.DefaultDestination}
	if e.several {
		to = e.to
	}
	if !e.prev && e.origin == nil && len(to) > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sideWorkTimeout)
	defer cancel()
	var jobs errgroup.Group
	for _, name := range to {
		if q := s.queueNamed(name); q != nil {
			jobs.Go(func() error { return q.supersedeOutdated(ctx, e) })
		}
	}
	err := jobs.Wait()
	if len(to) == 0 {
		err = s.conclude(ctx, e) // it is skipped
	}
	if err != nil && !errors.Is(err, errConflict) {
		s.log.Debug("events in progress were not superseded at once", zap.String("task", e.TaskID), zap.Error(err))
	}
}

func (d *destination) supersedeOutdated(ctx context.Context, e *stored) error {
	switch origin := e.originAt(d.name); {
	case origin != nil:
		return d.recordOrigin(ctx, &member{stored: e, origin: origin, history: history{at: d.placeOf(e)}})
	case !e.prev:
	case e.Status.Final() && (!e.final || d.several.Load()): // that one may go elsewhere
		return d.supersedeBefore(ctx, e)
	case !e.Status.Final() && e.final:
		return d.supersedeLate(ctx, e)
	}
	return nil
}

// supersedeLate supersedes an in-progress event that came after a final one,
// unless that was removed.
func (d *destination) supersedeLate(ctx context.Context, e *stored) error {
	final, err := d.finalExists(ctx, e.ID)
	if err == nil && final {
		err = d.supersede(ctx, &member{stored: e, history: history{at: d.placeOf(e)}})
	}
	return err
}

// supersedeBefore supersedes the waiting in-progress events before a final one.
func (d *destination) supersedeBefore(ctx context.Context, e *stored) error {
	task, err := d.task(ctx, e.ID)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(task, func(m *member) bool { return m.ID == e.ID }) {
		task = append(task, &member{stored: e}) // a lagging replica does not have it yet
	}
	outdated, _, _ := arrange(present(task), e.ID)
	for _, m := range outdated {
		if m.seq > e.seq {
			continue // the Put that stored m does so
		}
		if err := d.supersede(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

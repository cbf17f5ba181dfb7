package nats

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/clip"
)

// Tracked tasks are records in a stream of their own, the last of each task only. The
// stream is made when the first task is tracked. Each record is conditional on the one
// before, so that of several Caddys one leases a task. Each Caddy has a mirror in memory of
// what it needs to choose tasks; what it chooses is read from the stream's leader.
//
// The record of a task that is tracked no more is empty, and the server removes it after a
// while.
//
// A task is tracked before its event is stored, and its tracking ends after its final
// event is stored: a crash in between leaves a task too many. Who leases one looks for its
// final event first. If the stream is lost, events are stored all the same: it does not
// count as broken.

// tasksAtOnce is the number of tasks that one call sees to at once.
const tasksAtOnce = 64

// forgetAfter is how long an empty record stays. A Caddy that was cut off for longer reads
// all records again in any case.
const forgetAfter = 5 * time.Minute

// taskHash identifies a task: the first half of the SHA-256 of its id.
type taskHash [sha256.Size / 2]byte

func hashOf(taskID string) taskHash {
	sum := sha256.Sum256([]byte(taskID))
	return taskHash(sum[:len(taskHash{})])
}

func (n subjects) tasks() string    { return n.stream + "_TASKS" }
func (n subjects) allTasks() string { return n.stream + ".task.*" }

// tracked is the subject of a task's record.
func (n subjects) tracked(h taskHash) string { return n.stream + ".task." + hex.EncodeToString(h[:]) }

// hashIn returns the hash in the subject of a record.
func hashIn(subject string) (h taskHash, ok bool) {
	n, err := hex.Decode(h[:], []byte(subject[strings.LastIndexByte(subject, '.')+1:]))
	return h, err == nil && n == len(h)
}

// taskRecord is the record of a tracked task. Times are in µs since 1970.
type taskRecord struct {
	ID      string           `json:"id"`
	Source  inbox.TaskSource `json:"source,omitempty"`
	Since   int64            `json:"since"`
	Due     int64            `json:"due,omitempty"`
	Asked   int              `json:"asked,omitempty"`
	AskedAt int64            `json:"askedAt,omitempty"`
	Answer  string           `json:"answer,omitempty"`

	// First is the sequence of the task's first record, by which tasks are in order; 0 in
	// that one.
	First uint64 `json:"first,omitempty"`

	// By has leased the task for Lease, in µs. It is no time of day, so that clocks need
	// not agree.
	By    string `json:"by,omitempty"`
	Lease int64  `json:"lease,omitempty"`
}

func (r *taskRecord) public() inbox.Task {
	return inbox.Task{
		ID: r.ID, Source: r.Source, Since: inbox.FromMicros(r.Since), Due: inbox.FromMicros(r.Due),
		Asked: r.Asked, AskedAt: inbox.FromMicros(r.AskedAt), Answer: r.Answer,
	}
}

// set sets what SettleTasks stores.
func (r *taskRecord) set(t *inbox.Task, p *inbox.Policy, now time.Time) {
	r.Due, r.Asked = inbox.Micros(p.TaskDue(t.Due, now)), t.Asked
	r.AskedAt, r.Answer = inbox.Micros(t.AskedAt), clip.Text(t.Answer, inbox.MaxReason)
}

// decodeTask decodes a record; nil if it says that the task is tracked no more.
func decodeTask(m message) (*taskRecord, error) {
	if len(m.data) == 0 {
		return nil, nil //nolint:nilnil // it is tracked no more
	}
	r := new(taskRecord)
	if err := json.Unmarshal(m.data, r); err != nil {
		return nil, fmt.Errorf("record %d of a tracked task: %w", m.seq, err)
	}
	if r.First == 0 {
		r.First = m.seq
	}
	return r, nil
}

// tracking is what the inbox knows of tracked tasks.
type tracking struct {
	on     atomic.Bool // there is a stream of them
	mirror mirror
	loaded chan struct{} // closed once the mirror has all
	once   sync.Once

	mu      sync.Mutex
	held    map[taskHash]heldTask // leased by this inbox
	restart context.CancelFunc    // of the mirror
	logged  time.Time             // when a failure was last logged

	leasing chan struct{} // a semaphore: one call leases at a time
	dropped atomic.Int64
	finals  recent // tasks whose final events were put here
}

// heldTask is a leased task with the sequence of that record.
type heldTask struct {
	record taskRecord
	seq    uint64
}

func (t *tracking) init() {
	t.loaded, t.leasing = make(chan struct{}), make(chan struct{}, 1)
	t.held = map[taskHash]heldTask{}
}

func (s *store) tasksConfig() jetstream.StreamConfig {
	config := s.baseConfig()
	config.Name, config.Subjects = s.subjects.tasks(), []string{s.subjects.allTasks(), s.subjects.allAskers()}
	config.Description = "Tasks for which the Fotor webhook gateway waits"
	config.MaxMsgsPerSubject, config.AllowMsgTTL = 1, true
	return config
}

// startTracking begins to mirror the stream of tasks, which is made if that is wanted. It
// reports whether there is one.
func (s *store) startTracking(ctx context.Context, create bool) (bool, error) {
	if s.tracking.on.Load() {
		return true, nil
	}
	s.making.Lock()
	defer s.making.Unlock()
	return s.startTrackingLocked(ctx, create)
}

// startTrackingLocked is startTracking while s.making is held.
func (s *store) startTrackingLocked(ctx context.Context, create bool) (bool, error) {
	switch {
	case s.tracking.on.Load():
		return true, nil
	case s.closed():
		return false, errClosed()
	}
	if !create {
		_, err := s.js.Stream(ctx, s.subjects.tasks())
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	if err := s.ensureStream(ctx, s.tasksConfig()); err != nil {
		return false, err
	}
	s.tracking.on.Store(true)
	s.work.Go(s.mirrorTasks)
	return true, nil
}

// awaitTasks waits until the mirror has all tasks. It reports false if there is no stream
// of them.
func (s *store) awaitTasks(ctx context.Context) (bool, error) {
	on, err := s.startTracking(ctx, false)
	if err != nil || !on {
		return false, err
	}
	select {
	case <-s.tracking.loaded:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// mirrorTasks follows the stream for as long as the inbox is open. After each loss of the
// connection it reads all again.
func (s *store) mirrorTasks() {
	for !s.closed() {
		up := s.link.next()
		if !s.link.isUp() {
			select {
			case <-up:
			case <-s.life.Done():
				return
			}
		}
		if err := s.mirrorOnce(); err != nil && !s.closed() {
			s.log.Debug("tracked tasks cannot be followed, it is tried again", zap.Error(err))
		}
		select {
		case <-s.life.Done():
		case <-time.After(watchPause):
		}
	}
}

// mirrorOnce follows the stream until that fails.
func (s *store) mirrorOnce() error {
	ctx, cancel := s.link.bound(s.life, math.MaxInt64)
	defer cancel()
	s.tracking.mu.Lock()
	s.tracking.restart = cancel
	s.tracking.mu.Unlock()
	there, err := s.js.Stream(ctx, s.subjects.tasks())
	if err != nil {
		return err
	}
	m := &s.tracking.mirror
	if m.begin(there.CachedInfo().Created) {
		s.forgetHeld()
	}
	consumer, err := there.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{s.subjects.allTasks()}, DeliverPolicy: jetstream.DeliverAllPolicy,
	})
	if err != nil {
		return err
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	if info.NumPending == 0 {
		s.endLoad()
	}
	for {
		msg, err := messages.Next()
		if err != nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		s.noteTask(message{subject: msg.Subject(), seq: meta.Sequence.Stream, data: msg.Data()})
		if meta.NumPending == 0 {
			s.endLoad()
		}
	}
}

func (s *store) endLoad() {
	s.tracking.mirror.sweep()
	s.tracking.once.Do(func() { close(s.tracking.loaded) })
}

// noteTask passes a record of the stream to the mirror.
func (s *store) noteTask(m message) {
	h, ok := hashIn(m.subject)
	if !ok {
		return
	}
	r, err := decodeTask(m)
	if err != nil {
		s.log.Warn("a tracked task cannot be read", zap.Error(err))
		return
	}
	t := &s.tracking
	t.mirror.apply(h, m.seq, r, false)
	t.mu.Lock()
	if held, ok := t.held[h]; ok && held.seq < m.seq {
		delete(t.held, h) // another Caddy has got it since
	}
	t.mu.Unlock()
	if r != nil && t.finals.has(h) { // it was tracked elsewhere when its final event was put here
		s.untrackSoon(h)
	}
}

// untrackSoon forgets a task whose final event is stored. If that fails, who leases it
// does so.
func (s *store) untrackSoon(h taskHash) {
	s.making.Lock()
	defer s.making.Unlock()
	if s.closed() {
		return
	}
	s.work.Go(func() {
		ctx, cancel := context.WithTimeout(s.life, sideWorkTimeout)
		defer cancel()
		if _, err := s.untrackOne(ctx, h); err != nil {
			s.log.Debug("a task whose final event is stored is still tracked", zap.Error(err))
		}
	})
}

func (s *store) forgetHeld() {
	s.tracking.mu.Lock()
	defer s.tracking.mu.Unlock()
	clear(s.tracking.held)
}

// writeTask replaces the record of a task if it still is the one of that sequence.
func (s *store) writeTask(ctx context.Context, h taskHash, r *taskRecord, after uint64) (seq uint64, err error) {
	m := &nats.Msg{Subject: s.subjects.tracked(h)}
	if r == nil {
		m.Header = nats.Header{jetstream.MsgTTLHeader: {forgetAfter.String()}}
	} else if m.Data, err = json.Marshal(r); err != nil {
		return 0, err
	}
	if seq, err = s.publish(ctx, m, after, m.Subject); err != nil {
		return 0, err
	}
	if r != nil {
		written := *r
		if written.First == 0 {
			written.First = seq
		}
		r = &written
	}
	s.tracking.mirror.apply(h, seq, r, true)
	return seq, nil
}

// readTask returns the record of a task from the stream's leader, nil if it is not
// tracked, and the sequence of its last record, 0 if there is none.
func (s *store) readTask(ctx context.Context, h taskHash) (*taskRecord, uint64, error) {
	m, err := s.last(ctx, s.subjects.tasks(), s.subjects.tracked(h))
	if err != nil || m == nil {
		return nil, 0, err
	}
	r, err := decodeTask(*m)
	return r, m.seq, err
}

// finalStored reports whether a final event of the task is stored.
func (s *store) finalStored(ctx context.Context, taskID string) (bool, error) {
	id := inbox.NewID(taskID, nil) // of which only the key of the task counts here
	m, err := s.last(ctx, s.subjects.stream, s.subjects.task(id))
	if err != nil || m == nil {
		return false, err
	}
	e, err := decodeEvent(*m)
	if err != nil {
		return false, err
	}
	if !e.final && e.TaskID == taskID {
		return e.Status.Final(), nil
	}
	events, err := s.events(ctx, id) // the one before may have been removed
	return slices.ContainsFunc(events, func(e *stored) bool { return e.TaskID == taskID && e.Status.Final() }), err
}

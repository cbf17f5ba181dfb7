package nats

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// suspect is the head of a quarantined callback's message, before its body.
type suspect struct {
	Received int64  `json:"received"`
	Last     int64  `json:"last,omitempty"`
	Count    int64  `json:"count,omitempty"`
	Source   string `json:"source"`
	Status   int    `json:"status"`
	Problems []byte `json:"problems,omitempty"`
}

// encodeSuspect encodes a message: the length of the head, the head, and the
// body.
func encodeSuspect(q *inbox.Suspect) ([]byte, error) {
	head, err := json.Marshal(suspect{inbox.Micros(q.ReceivedAt), inbox.Micros(q.Last), q.Count, q.SourceIP, q.Status, q.Problems})
	if err != nil {
		return nil, err
	}
	data := binary.AppendUvarint(nil, uint64(len(head)))
	return append(append(data, head...), q.Body...), nil
}

// decodeSuspect decodes a message. The id is in its subject, or is its sequence
// if it is of an older release.
func (s *store) decodeSuspect(m message) (*inbox.Suspect, error) {
	id := int64(m.seq)
	if m.subject != s.subjects.oldSuspects() {
		var err error
		if id, err = strconv.ParseInt(idOf(m.subject), 10, 64); err != nil {
			return nil, fmt.Errorf("message %d of the quarantine: its subject has no id: %w", m.seq, err)
		}
	}
	size, n := binary.Uvarint(m.data)
	if n <= 0 || size > uint64(len(m.data)-n) {
		return nil, fmt.Errorf("quarantined callback %d cannot be read", m.seq)
	}
	end := n + int(size)
	var head suspect
	if err := json.Unmarshal(m.data[n:end], &head); err != nil {
		return nil, fmt.Errorf("quarantined callback %d: %w", m.seq, err)
	}
	q := &inbox.Suspect{
		ID: id, ReceivedAt: inbox.FromMicros(head.Received), Last: inbox.FromMicros(head.Last), Count: head.Count,
		SourceIP: head.Source, Status: head.Status, Problems: head.Problems, Body: m.data[end:],
	}
	q.Complete()
	return q, nil
}

// Quarantine stores a suspect.
func (s *store) Quarantine(ctx context.Context, q *inbox.Suspect) error {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if s.policy.Load().Quarantine <= 0 {
		return nil
	}
	if err := s.health.problem(); err != nil {
		return err
	}
	// One at a time: concurrent ones would only conflict with each other.
	select {
	case s.quarantineSlot <- struct{}{}:
		defer func() { <-s.quarantineSlot }()
	case <-bounded.Done():
		return s.failed(ctx, bounded.Err())
	}
	for {
		err = s.putSuspect(bounded, q)
		if !errors.Is(err, errConflict) || bounded.Err() != nil {
			return s.failed(ctx, err)
		}
	}
}

// putSuspect stores a suspect, replacing the message with the same body if
// there is one. It returns errConflict if another Caddy was faster.
func (s *store) putSuspect(ctx context.Context, q *inbox.Suspect) error {
	key := q.Key()
	body := hex.EncodeToString(key[:])
	// The state is read before the body is looked up, so that anything stored
	// in between is a conflict.
	there, err := s.js.Stream(ctx, s.subjects.quarantine())
	if err != nil {
		return err
	}
	state := there.CachedInfo().State
	before, err := s.last(ctx, s.subjects.quarantine(), s.subjects.suspect(body, "*"))
	if err != nil {
		return err
	}
	now := *q
	now.Complete()
	now.ID = int64(state.LastSeq) + 1 // the sequence of this message
	if before != nil {
		kept, err := s.decodeSuspect(*before)
		if err != nil {
			return err
		}
		kept.Add(&now)
		now = *kept
	}
	m := &nats.Msg{Subject: s.subjects.suspect(body, strconv.FormatInt(now.ID, 10))}
	if m.Data, err = s.fitSuspect(&now); err != nil {
		return err
	}
	if before != nil {
		m.Header = nats.Header{jetstream.MsgRollup: {jetstream.MsgRollupSubject}}
		_, err = s.publish(ctx, m, before.seq, m.Subject)
	} else {
		m.Header = nats.Header{jetstream.ExpectedLastSeqHeader: {strconv.FormatUint(state.LastSeq, 10)}}
		if _, err = s.js.PublishMsg(ctx, m); err != nil {
			err = publishError(err)
		}
	}
	if err != nil {
		return err
	}
	q.ID, q.Count, q.ReceivedAt, q.Last = now.ID, now.Count, now.ReceivedAt, now.Last
	if before == nil && state.Msgs+1 > uint64(s.policy.Load().Quarantine) {
		if err := s.trimSuspects(ctx); err != nil { // the suspect is stored all the same
			s.log.Warn("the quarantine has more than its limit, it is tried again", zap.Error(err))
		}
	}
	return nil
}

// fitSuspect encodes a suspect in the size that the server accepts.
func (s *store) fitSuspect(q *inbox.Suspect) ([]byte, error) {
	data, err := encodeSuspect(q)
	if err == nil && int64(len(data)) > s.conn.MaxPayload() {
		// The problems can be derived from the body again.
		short := *q
		short.Problems = []byte("[]")
		data, err = encodeSuspect(&short)
	}
	return data, err
}

// maxSuspects is the limit of the stream: one more than that of the policy. The
// server enforces it before a repeated message leaves its old place, so with
// the exact limit each repeat would push out another suspect.
func maxSuspects(p *inbox.Policy) int64 { return int64(max(1, p.Quarantine)) + 1 }

// trimStep is the number of suspects removed at a time.
const trimStep = 16

// trimSuspects removes suspects beyond the policy's limit, those whose last
// arrival is the oldest. There is at most one, or a few if several Caddys store
// suspects at the same time. What is left is removed the next time.
func (s *store) trimSuspects(ctx context.Context) error {
	for range trimStep {
		there, err := s.js.Stream(ctx, s.subjects.quarantine())
		if err != nil {
			return err
		}
		state := there.CachedInfo().State
		if state.Msgs <= uint64(max(0, s.policy.Load().Quarantine)) {
			return nil
		}
		if err := s.deleteSuspect(ctx, state.FirstSeq); err != nil && !isMissing(err) {
			return err
		}
	}
	return nil
}

func (s *store) deleteSuspect(ctx context.Context, seq uint64) error {
	return s.api(ctx, "STREAM.MSG.DELETE."+s.subjects.quarantine(), map[string]any{"seq": seq, "no_erase": true})
}

// Suspects lists quarantined callbacks, always the last arrivals first.
func (s *store) Suspects(ctx context.Context, p inbox.Page) (suspects []*inbox.Suspect, next string, err error) {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return nil, "", err
	}
	defer cancel()
	p.OldestFirst = false
	past, limit, err := p.Start()
	if err != nil {
		return nil, "", err
	}
	if s.policy.Load().Quarantine <= 0 {
		return nil, "", nil
	}
	suspects, more, err := s.suspects(bounded, uint64(past), limit)
	if err != nil {
		return nil, "", s.failed(ctx, err)
	}
	if more != 0 {
		next = p.Next(int64(more))
	}
	return suspects, next, nil
}

// suspects returns the suspects before a sequence, newest first, and the
// sequence before which there are more, or 0.
func (s *store) suspects(ctx context.Context, past uint64, limit int) (suspects []*inbox.Suspect, more uint64, err error) {
	stream := s.subjects.quarantine()
	first, last, err := s.bounds(ctx, stream)
	if err != nil {
		return nil, 0, err
	}
	past = min(past, last+1)
	var lowest uint64
	width, bytes := uint64(min(limit+1, s.options.limits.window)), 0
	for past > first {
		low := max(first, past-min(past, width))
		messages, all, err := s.between(ctx, stream, low, past)
		if err != nil {
			return nil, 0, err
		}
		if !all && width > 1 {
			width = narrower(past-low, messages)
			continue
		}
		slices.Reverse(messages)
		for _, m := range messages {
			if len(suspects) == limit || bytes >= inbox.MaxPageBytes {
				return suspects, lowest, nil
			}
			q, err := s.decodeSuspect(m)
			if err != nil {
				return nil, 0, err
			}
			suspects, lowest = append(suspects, q), m.seq
			bytes += len(m.data)
		}
		past, width = low, min(2*width, math.MaxInt32)
	}
	return suspects, 0, nil
}

// Suspect returns one quarantined callback.
func (s *store) Suspect(ctx context.Context, id int64) (*inbox.Suspect, error) {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	if id < 1 {
		return nil, inbox.SuspectNotFound(id)
	}
	m, err := s.suspect(bounded, id)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	return s.decodeSuspect(m)
}

// suspect returns the message of a quarantined callback from the leader.
func (s *store) suspect(ctx context.Context, id int64) (message, error) {
	stream := s.subjects.quarantine()
	m, err := s.last(ctx, stream, s.subjects.suspect("*", strconv.FormatInt(id, 10)))
	if err == nil && m == nil { // it may be of an older release
		m, err = s.leaderGet(ctx, stream, map[string]any{"seq": id})
		if m != nil && m.subject != s.subjects.oldSuspects() {
			m = nil
		}
	}
	if err == nil && m == nil {
		err = inbox.SuspectNotFound(id)
	}
	if err != nil {
		return message{}, err
	}
	return *m, nil
}

// Unquarantine removes a suspect.
func (s *store) Unquarantine(ctx context.Context, id int64) error {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if id < 1 {
		return inbox.SuspectNotFound(id)
	}
	for {
		m, err := s.suspect(bounded, id)
		if err == nil {
			err = s.deleteSuspect(bounded, m.seq)
		}
		if isMissing(err) && bounded.Err() == nil {
			continue // it has just arrived again, or another Caddy removed it
		}
		return s.failed(ctx, err)
	}
}

// trimQuarantine applies the policy's limit to the stream.
func (s *store) trimQuarantine(ctx context.Context) error {
	there, err := s.js.Stream(ctx, s.subjects.quarantine())
	if err != nil {
		return err
	}
	policy := s.policy.Load()
	if policy.Quarantine <= 0 {
		if there.CachedInfo().State.Msgs == 0 {
			return nil
		}
		return s.api(ctx, "STREAM.PURGE."+s.subjects.quarantine(), struct{}{})
	}
	config := there.CachedInfo().Config
	if config.MaxMsgs != maxSuspects(policy) {
		config.MaxMsgs = maxSuspects(policy)
		if _, err = s.js.UpdateStream(ctx, config); err != nil {
			return err
		}
	}
	return s.trimSuspects(ctx)
}

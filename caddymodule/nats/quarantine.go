package nats

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/nats-io/nats.go"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// suspect is what is stored of a quarantined callback before its body.
type suspect struct {
	Received int64  `json:"received"`
	Source   string `json:"source"`
	Status   int    `json:"status"`
	Problems []byte `json:"problems,omitempty"`
}

// encodeSuspect makes a message of a suspect: the length of what is known of
// it, that, and its body.
func encodeSuspect(q *inbox.Suspect) ([]byte, error) {
	head, err := json.Marshal(suspect{micros(q.ReceivedAt), q.SourceIP, q.Status, q.Problems})
	if err != nil {
		return nil, err
	}
	data := binary.AppendUvarint(nil, uint64(len(head)))
	return append(append(data, head...), q.Body...), nil
}

func decodeSuspect(m message) (*inbox.Suspect, error) {
	size, n := binary.Uvarint(m.data)
	if n <= 0 || size > uint64(len(m.data)-n) {
		return nil, fmt.Errorf("quarantined callback %d cannot be read", m.seq)
	}
	end := n + int(size)
	var head suspect
	if err := json.Unmarshal(m.data[n:end], &head); err != nil {
		return nil, fmt.Errorf("quarantined callback %d: %w", m.seq, err)
	}
	return &inbox.Suspect{
		ID: int64(m.seq), ReceivedAt: fromMicros(head.Received), SourceIP: head.Source,
		Status: head.Status, Problems: head.Problems, Body: m.data[end:],
	}, nil
}

// Quarantine keeps a suspect. The stream itself lets the oldest go.
func (s *store) Quarantine(ctx context.Context, q *inbox.Suspect) error {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if s.policy.Load().Quarantine <= 0 {
		return nil
	}
	if err := s.condition.known(); err != nil {
		return err
	}
	data, err := encodeSuspect(q)
	if err == nil && int64(len(data)) > s.conn.MaxPayload() {
		// Its body says again what is wrong with it.
		short := *q
		short.Problems = []byte("[]")
		data, err = encodeSuspect(&short)
	}
	if err != nil {
		return err
	}
	ack, err := s.js.PublishMsg(bounded, &nats.Msg{Subject: s.subjects.suspects(), Data: data})
	if err != nil {
		return s.failed(ctx, publishError(err))
	}
	q.ID = int64(ack.Sequence)
	return nil
}

// Suspects lists quarantined callbacks, newest first whatever the page says.
func (s *store) Suspects(ctx context.Context, p inbox.Page) (suspects []*inbox.Suspect, next string, err error) {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return nil, "", err
	}
	defer cancel()
	past, limit, err := parsePage(p, false)
	if err != nil {
		return nil, "", err
	}
	if s.policy.Load().Quarantine <= 0 {
		return nil, "", nil
	}
	suspects, more, err := s.suspects(bounded, past, limit)
	if err != nil {
		return nil, "", s.failed(ctx, err)
	}
	if more {
		next = cursorOf(uint64(suspects[len(suspects)-1].ID), false)
	}
	return suspects, next, nil
}

// suspects returns the last ones before a number.
func (s *store) suspects(ctx context.Context, past uint64, limit int) (suspects []*inbox.Suspect, more bool, err error) {
	stream := s.subjects.quarantine()
	first, last, err := s.bounds(ctx, stream)
	if err != nil {
		return nil, false, err
	}
	past = min(past, last+1)
	width, bytes := uint64(min(limit+1, s.options.limits.window)), 0
	for past > first {
		low := max(first, past-min(past, width))
		messages, all, err := s.between(ctx, stream, low, past)
		if err != nil {
			return nil, false, err
		}
		if !all && width > 1 {
			width = narrower(past-low, messages)
			continue
		}
		slices.Reverse(messages)
		for _, m := range messages {
			if len(suspects) == limit || bytes >= maxPageBytes {
				return suspects, true, nil
			}
			q, err := decodeSuspect(m)
			if err != nil {
				return nil, false, err
			}
			suspects = append(suspects, q)
			bytes += len(m.data)
		}
		past, width = low, min(2*width, math.MaxInt32)
	}
	return suspects, false, nil
}

// Suspect returns one quarantined callback.
func (s *store) Suspect(ctx context.Context, id int64) (*inbox.Suspect, error) {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	if id < 1 {
		return nil, suspectNotFound(id)
	}
	messages, _, err := s.ask(bounded, s.subjects.quarantine(), query{Seq: uint64(id), Batch: 1})
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	if len(messages) == 0 || messages[0].seq != uint64(id) {
		return nil, suspectNotFound(id)
	}
	return decodeSuspect(messages[0])
}

// Unquarantine removes a suspect.
func (s *store) Unquarantine(ctx context.Context, id int64) error {
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if id < 1 {
		return suspectNotFound(id)
	}
	err = s.api(bounded, "STREAM.MSG.DELETE."+s.subjects.quarantine(), map[string]any{"seq": id, "no_erase": true})
	if isMissing(err) {
		return suspectNotFound(id)
	}
	return s.failed(ctx, err)
}

func suspectNotFound(id int64) error {
	return fmt.Errorf("quarantined callback %d: %w", id, inbox.ErrNotFound)
}

// trimQuarantine gives the stream the policy's limit.
func (s *store) trimQuarantine(ctx context.Context) error {
	there, err := s.js.Stream(ctx, s.subjects.quarantine())
	if err != nil {
		return err
	}
	limit := int64(s.policy.Load().Quarantine)
	if limit <= 0 {
		if there.CachedInfo().State.Msgs == 0 {
			return nil
		}
		return s.api(ctx, "STREAM.PURGE."+s.subjects.quarantine(), struct{}{})
	}
	config := there.CachedInfo().Config
	if config.MaxMsgs == limit {
		return nil
	}
	config.MaxMsgs = limit
	_, err = s.js.UpdateStream(ctx, config)
	return err
}

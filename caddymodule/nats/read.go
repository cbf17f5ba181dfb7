package nats

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// message is a message of a stream.
type message struct {
	subject string
	seq     uint64
	header  nats.Header
	data    []byte
}

// query selects messages of a stream.
type query struct {
	Seq       uint64   `json:"seq,omitempty"`
	NextFor   string   `json:"next_by_subj,omitempty"`
	Batch     int      `json:"batch,omitempty"`
	MaxBytes  int      `json:"max_bytes,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`
}

// errTooMany says that more subjects match than fit into one answer.
var errTooMany = errors.New("too many messages")

// errNoLeader says that the servers are electing a leader.
var errNoLeader = errors.New("it has no leader")

// next returns the first message with this subject from a sequence on.
func (s *store) next(ctx context.Context, stream, subject string, from uint64) (*message, error) {
	messages, _, err := s.directGet(ctx, stream, query{Seq: from, NextFor: subject})
	if err != nil || len(messages) == 0 {
		return nil, err
	}
	return &messages[0], nil
}

// count returns the number of messages with this subject.
func (s *store) count(ctx context.Context, stream, subject string) (uint64, error) {
	return s.countFrom(ctx, stream, subject, 0)
}

// countFrom is count for the messages from a sequence on.
func (s *store) countFrom(ctx context.Context, stream, subject string, from uint64) (uint64, error) {
	messages, more, err := s.directGet(ctx, stream, query{Seq: from, NextFor: subject, Batch: 1})
	return uint64(len(messages)) + more, err
}

// maxLatest is the largest number of messages in the server's answer to a query
// with MultiLast.
const maxLatest = 1024

// maxAnswer bounds the bytes of one answer.
const maxAnswer = 8 << 20

// latest returns the last message on each of the subjects, which may have
// wildcards, oldest first.
func (s *store) latest(ctx context.Context, stream string, subjects ...string) ([]message, error) {
	messages, more, err := s.directGet(ctx, stream, query{MultiLast: subjects, MaxBytes: maxAnswer})
	if errors.Is(err, errTooMany) || (err == nil && more > 0) {
		return s.latestInParts(ctx, stream, subjects)
	}
	slices.SortFunc(messages, func(a, b message) int { return cmp.Compare(a.seq, b.seq) })
	return messages, err
}

// latestInParts is latest for messages that are too many or too large for one
// answer.
func (s *store) latestInParts(ctx context.Context, stream string, subjects []string) ([]message, error) {
	if len(subjects) == 1 {
		return s.all(ctx, stream, subjects[0])
	}
	half := len(subjects) / 2
	first, err := s.latest(ctx, stream, subjects[:half]...)
	if err != nil {
		return nil, err
	}
	second, err := s.latest(ctx, stream, subjects[half:]...)
	messages := append(first, second...)
	slices.SortFunc(messages, func(a, b message) int { return cmp.Compare(a.seq, b.seq) })
	return messages, err
}

// all returns all messages whose subject matches.
func (s *store) all(ctx context.Context, stream, subject string) (all []message, err error) {
	for messages, err := range s.batches(ctx, stream, subject, 1, maxBatch) {
		if err != nil {
			return nil, err
		}
		all = append(all, messages...)
	}
	return all, nil
}

// maxBatch is the number of messages read at a time, unless fewer are wanted.
const maxBatch = 1000

// batches returns the messages whose subject matches, from a sequence on, up to
// size at a time.
func (s *store) batches(ctx context.Context, stream, subject string, from uint64, size int) iter.Seq2[[]message, error] {
	return func(yield func([]message, error) bool) {
		for {
			messages, more, err := s.directGet(ctx, stream, query{Seq: from, NextFor: subject, Batch: size, MaxBytes: maxAnswer})
			if err != nil {
				yield(nil, err)
				return
			}
			if len(messages) == 0 || !yield(messages, nil) || more == 0 {
				return
			}
			from = messages[len(messages)-1].seq + 1
		}
	}
}

// last returns the last message on a subject, from the stream's leader.
func (s *store) last(ctx context.Context, stream, subject string) (*message, error) {
	return s.leaderGet(ctx, stream, map[string]any{"last_by_subj": subject})
}

// leaderGet returns one message from the stream's leader, nil if there is none.
func (s *store) leaderGet(ctx context.Context, stream string, request map[string]any) (*message, error) {
	var answer struct {
		apiAnswer
		Message *struct {
			Subject string `json:"subject"`
			Seq     uint64 `json:"seq"`
			Hdrs    []byte `json:"hdrs"`
			Data    []byte `json:"data"`
		} `json:"message"`
	}
	err := s.apiRequest(ctx, "STREAM.MSG.GET."+stream, request, &answer)
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, nil //nolint:nilnil // there is none
	case err != nil:
		return nil, err
	case answer.Message == nil:
		return nil, fmt.Errorf("reading stream %s: an answer without a message", stream)
	}
	got := &message{subject: answer.Message.Subject, seq: answer.Message.Seq, data: answer.Message.Data}
	if len(answer.Message.Hdrs) > 0 {
		if got.header, err = nats.DecodeHeadersMsg(answer.Message.Hdrs); err != nil {
			return nil, err
		}
	}
	return got, nil
}

// apiAnswer is the part that all answers of the JetStream API have.
type apiAnswer struct {
	Error *jetstream.APIError `json:"error"`
}

func (a *apiAnswer) err() error {
	if a.Error == nil {
		return nil
	}
	return a.Error
}

// api sends a request to the JetStream API.
func (s *store) api(ctx context.Context, subject string, request any) error {
	return s.apiRequest(ctx, subject, request, new(apiAnswer))
}

// apiRequest sends a request to the JetStream API and decodes the answer.
func (s *store) apiRequest(ctx context.Context, subject string, request any, answer interface{ err() error }) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	m, err := s.conn.RequestWithContext(ctx, "$JS.API."+subject, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		return err
	}
	return answer.err()
}

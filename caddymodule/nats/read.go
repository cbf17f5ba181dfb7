package nats

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// message is one that a stream has.
type message struct {
	subject string
	seq     uint64
	header  nats.Header
	data    []byte
}

// query asks for messages of a stream.
type query struct {
	Seq       uint64   `json:"seq,omitempty"`
	NextFor   string   `json:"next_by_subj,omitempty"`
	Batch     int      `json:"batch,omitempty"`
	MaxBytes  int      `json:"max_bytes,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`
}

// replies takes the answers to queries: one query may have many.
type replies struct {
	inbox   string
	mu      sync.Mutex
	number  uint64
	waiting map[string]chan *nats.Msg
}

// maxLatest is the largest number of messages that the server answers with if
// it is asked for the last ones on subjects.
const maxLatest = 1024

// listen begins to take answers.
func (r *replies) listen(conn *nats.Conn) error {
	r.inbox, r.waiting = conn.NewInbox(), map[string]chan *nats.Msg{}
	sub, err := conn.Subscribe(r.inbox+".*", func(m *nats.Msg) {
		r.mu.Lock()
		defer r.mu.Unlock()
		select {
		case r.waiting[m.Subject] <- m:
		default: // nobody waits any more
		}
	})
	if err != nil {
		return err
	}
	return sub.SetPendingLimits(-1, -1)
}

// expect returns a subject for the answers to a query, and where they come.
func (r *replies) expect(q query) (string, <-chan *nats.Msg) {
	most := q.Batch
	if most == 0 {
		most = maxLatest
	}
	ch := make(chan *nats.Msg, most+1) // and the end
	r.mu.Lock()
	defer r.mu.Unlock()
	r.number++
	reply := r.inbox + "." + strconv.FormatUint(r.number, 10)
	r.waiting[reply] = ch
	return reply, ch
}

func (r *replies) forget(reply string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, reply)
}

// errTooMany says that more subjects match than one answer may have.
var errTooMany = errors.New("too many messages")

// errNoLeader says that the servers elect one.
var errNoLeader = errors.New("it has no leader")

// ask returns the messages that one query gets, and how many more there are.
// Any replica may answer: what it says was true a moment ago.
func (s *store) ask(ctx context.Context, stream string, q query) (messages []message, more uint64, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, 0, err
	}
	reply, answers := s.replies.expect(q)
	defer s.replies.forget(reply)
	if err := s.conn.PublishRequest("$JS.API.DIRECT.GET."+stream, reply, body); err != nil {
		return nil, 0, err
	}
	for {
		var m *nats.Msg
		select {
		case m = <-answers:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
		number := func(name string) uint64 {
			n, _ := strconv.ParseUint(m.Header.Get(name), 10, 64)
			return n
		}
		switch status := m.Header.Get("Status"); status {
		case "":
			messages = append(messages, message{m.Header.Get("Nats-Subject"), number("Nats-Sequence"), m.Header, m.Data})
		case "204":
			return messages, number("Nats-Num-Pending"), nil
		case "404":
			return nil, 0, nil
		case "413":
			return nil, 0, errTooMany
		case "503":
			return nil, 0, fmt.Errorf("stream %s: %w", stream, errNoLeader)
		default:
			return nil, 0, fmt.Errorf("reading stream %s: %s %s", stream, status, m.Header.Get("Description"))
		}
	}
}

// next returns the first message on subjects from a number on.
func (s *store) next(ctx context.Context, stream, subject string, from uint64) (*message, error) {
	body, err := json.Marshal(query{Seq: from, NextFor: subject})
	if err != nil {
		return nil, err
	}
	m, err := s.conn.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream, body)
	if err != nil {
		return nil, err
	}
	switch status := m.Header.Get("Status"); status {
	case "":
		seq, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
		return &message{m.Header.Get("Nats-Subject"), seq, m.Header, m.Data}, err
	case "404":
		return nil, nil //nolint:nilnil // there is none
	default:
		return nil, fmt.Errorf("reading stream %s: %s %s", stream, status, m.Header.Get("Description"))
	}
}

// count returns how many messages of a stream have a subject.
func (s *store) count(ctx context.Context, stream, subject string) (uint64, error) {
	messages, more, err := s.ask(ctx, stream, query{NextFor: subject, Batch: 1})
	return uint64(len(messages)) + more, err
}

// maxAnswer bounds the bytes of one answer.
const maxAnswer = 8 << 20

// latest returns the messages on subjects, which may have wildcards, oldest first.
func (s *store) latest(ctx context.Context, stream string, subjects ...string) ([]message, error) {
	messages, more, err := s.ask(ctx, stream, query{MultiLast: subjects, MaxBytes: maxAnswer})
	if errors.Is(err, errTooMany) || (err == nil && more > 0) {
		return s.rest(ctx, stream, subjects)
	}
	slices.SortFunc(messages, func(a, b message) int { return cmp.Compare(a.seq, b.seq) })
	return messages, err
}

// rest returns the messages on subjects that are too many or too large for one
// answer.
func (s *store) rest(ctx context.Context, stream string, subjects []string) ([]message, error) {
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

// all returns the messages on a subject with wildcards, however many.
func (s *store) all(ctx context.Context, stream, subject string) (all []message, err error) {
	for from := uint64(1); ; {
		messages, more, err := s.ask(ctx, stream, query{Seq: from, NextFor: subject, Batch: 1000, MaxBytes: maxAnswer})
		if err != nil {
			return nil, err
		}
		all = append(all, messages...)
		if more == 0 || len(messages) == 0 {
			return all, nil
		}
		from = messages[len(messages)-1].seq + 1
	}
}

// last returns the last message on a subject as the stream's leader has it.
func (s *store) last(ctx context.Context, stream, subject string) (*message, error) {
	return s.askLeader(ctx, stream, map[string]any{"last_by_subj": subject})
}

// askLeader returns one message as the stream's leader has it.
func (s *store) askLeader(ctx context.Context, stream string, request map[string]any) (*message, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	m, err := s.conn.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject string `json:"subject"`
			Seq     uint64 `json:"seq"`
			Hdrs    []byte `json:"hdrs"`
			Data    []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return nil, err
	}
	if answer.Error != nil {
		if answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return nil, nil //nolint:nilnil // there is none
		}
		return nil, answer.Error
	}
	if answer.Message == nil {
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

// api asks the server to change a stream.
func (s *store) api(ctx context.Context, subject string, request any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	m, err := s.conn.RequestWithContext(ctx, "$JS.API."+subject, body)
	if err != nil {
		return err
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return answer.Error
	}
	return nil
}

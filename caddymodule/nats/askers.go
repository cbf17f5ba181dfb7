package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

// Who asks Fotor for tasks has a record in the stream of tasks, which the server removes
// when it was not renewed for a while: no clock but the server's counts, and what Caddys
// that died have left goes away by itself.

func (n subjects) allAskers() string { return n.stream + ".asker.*.*" }

// askers matches the records of those who ask for an account.
func (n subjects) askers(account string) string { return n.stream + ".asker." + account + ".*" }

// asker is the subject of the record of one inbox.
func (n subjects) asker(account, instance string) string {
	return n.stream + ".asker." + account + "." + instance
}

// askerRecord is the record of one who asks.
type askerRecord struct {
	Rate float64 `json:"rate"`
}

// Register says that this inbox's gateway asks Fotor, and returns who else does.
func (s *store) Register(ctx context.Context, a inbox.Asker) (inbox.Askers, error) {
	if err := checkAccount(a.Account); err != nil {
		return inbox.Askers{}, err
	}
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return inbox.Askers{}, err
	}
	defer cancel()
	askers, err := s.registerAsker(bounded, a)
	if err != nil {
		s.health.inspectSoon() // the stream may be gone
		return inbox.Askers{}, s.failed(ctx, fmt.Errorf("sharing the rate: %w", err))
	}
	return askers, nil
}

func (s *store) registerAsker(ctx context.Context, a inbox.Asker) (inbox.Askers, error) {
	if _, err := s.startTracking(ctx, true); err != nil {
		return inbox.Askers{}, err
	}
	data, err := json.Marshal(askerRecord{a.Rate})
	if err != nil {
		return inbox.Askers{}, err
	}
	mine := s.subjects.asker(a.Account, s.instance)
	ack, err := s.js.PublishMsg(ctx, &nats.Msg{
		Subject: mine, Data: data, Header: nats.Header{jetstream.MsgTTLHeader: {inbox.AskerLife.String()}},
	})
	if err != nil {
		return inbox.Askers{}, publishError(err)
	}
	for {
		records, err := s.latest(ctx, s.subjects.tasks(), s.subjects.askers(a.Account))
		if err != nil {
			return inbox.Askers{}, err
		}
		if askers, seen := s.countAskers(records, mine, ack.Sequence); seen {
			return askers, nil
		}
		// a replica has answered that has not got so far
		if !sleep.For(ctx, conflictWait) {
			return inbox.Askers{}, ctx.Err()
		}
	}
}

// countAskers counts records. seen tells whether that of this inbox with the sequence is
// among them: a replica that has it has all that was stored before.
func (s *store) countAskers(records []message, mine string, seq uint64) (askers inbox.Askers, seen bool) {
	for _, m := range records {
		var r askerRecord
		if err := json.Unmarshal(m.data, &r); err != nil || r.Rate <= 0 {
			s.log.Warn("who asks Fotor cannot be read, and is counted all the same", zap.String("subject", m.subject), zap.Error(err))
			r.Rate = 0
		}
		askers.Count++
		if r.Rate > 0 && (askers.Rate == 0 || r.Rate < askers.Rate) {
			askers.Rate = r.Rate
		}
		seen = seen || m.subject == mine && m.seq >= seq
	}
	return askers, seen
}

// Unregister says that this inbox's gateway does not ask any more.
func (s *store) Unregister(ctx context.Context, account string) error {
	if err := checkAccount(account); err != nil {
		return err
	}
	bounded, cancel, err := s.call(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	err = s.api(bounded, "STREAM.PURGE."+s.subjects.tasks(), map[string]any{"filter": s.subjects.asker(account, s.instance)})
	return s.failed(ctx, err)
}

// errAccount says that an account cannot be a part of a subject.
var errAccount = errors.New("an account is identified by 1 to 64 digits and lower-case letters")

func checkAccount(account string) error {
	if account == "" || len(account) > 64 {
		return errAccount
	}
	for _, c := range []byte(account) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return errAccount
		}
	}
	return nil
}

// Interface guard
var _ inbox.AskerRegistry = (*store)(nil)

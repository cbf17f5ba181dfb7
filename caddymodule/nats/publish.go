package nats

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// errConflict says that a message was not stored because another one was stored
// after the one on which it is based.
var errConflict = errors.New("it was changed meanwhile")

// The server's error codes that the client does not define.
const (
	codeWrongLast         = 10071
	codeWrongLastConstant = 10164
	codeStoreFailed       = 10077
	codeStorage           = 10047
	codeResources         = 10023
	codeNotAvailable      = 10008 // a cluster has no leader
	codeOffline           = 10118 // all servers that have the stream are away
	codeAccount           = 10002
	codeSequenceNotFound  = 10043
	codeDeleteFailed      = 10057
	codeTooLarge          = 10054 // a single message is too large
)

// errResources says that the servers have no room, whatever the limit of the
// stream.
var errResources = errors.New("the NATS servers have no room")

// retryWait is the pause before a publish that found no leader is repeated.
const retryWait = 100 * time.Millisecond

// publish stores a message if the last one on the subjects still has the
// sequence after, 0 meaning that there is none.
func (s *store) publish(ctx context.Context, m *nats.Msg, after uint64, subjects string) (uint64, error) {
	ack, err := s.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequenceForSubject(after, subjects),
		jetstream.WithRetryWait(retryWait), jetstream.WithRetryAttempts(int(s.publishTimeout()/retryWait)))
	if err != nil {
		return 0, publishError(err)
	}
	return ack.Sequence, nil
}

// publishError translates the server's reason for not storing a message.
func publishError(err error) error {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return err
	}
	switch text := api.Description; {
	case api.ErrorCode == codeWrongLast, api.ErrorCode == codeWrongLastConstant:
		return errConflict
	case api.ErrorCode == codeStoreFailed && strings.Contains(text, "maximum bytes"):
		return fmt.Errorf("%w: %s", inbox.ErrFull, text)
	case api.ErrorCode == codeStorage, api.ErrorCode == codeResources, api.ErrorCode == codeAccount,
		api.ErrorCode == codeStoreFailed && strings.Contains(text, "no space left"):
		return fmt.Errorf("%w: %w: %s", inbox.ErrFull, errResources, text)
	}
	return err
}

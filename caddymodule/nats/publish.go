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

// errConflict says that a message was not stored because there is a newer one
// than the one that it follows.
var errConflict = errors.New("it was changed meanwhile")

// The server's codes of errors, where the client has no names for them.
const (
	codeWrongLast         = 10071
	codeWrongLastConstant = 10164
	codeStoreFailed       = 10077
	codeStorage           = 10047
	codeResources         = 10023
	codeNotAvailable      = 10008 // of a cluster without a leader
	codeAccount           = 10002
	codeSequenceNotFound  = 10043
	codeDeleteFailed      = 10057
	codeTooLarge          = 10054 // the message itself
)

// errResources says that servers have no room, whatever the stream's limit is.
var errResources = errors.New("the NATS servers have no room")

// retryWait is how soon a publish is repeated that found no leader of the stream.
const retryWait = 100 * time.Millisecond

// publish stores a message if the last one on the subjects is still the one
// with that number; 0 says that there is none.
func (s *store) publish(ctx context.Context, m *nats.Msg, after uint64, subjects string) (uint64, error) {
	ack, err := s.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequenceForSubject(after, subjects),
		jetstream.WithRetryWait(retryWait), jetstream.WithRetryAttempts(int(s.publishTimeout()/retryWait)))
	if err != nil {
		return 0, publishError(err)
	}
	return ack.Sequence, nil
}

// publishError says what kept a message from being stored.
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

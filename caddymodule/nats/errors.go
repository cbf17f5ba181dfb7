package nats

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func notFound(id string) error { return fmt.Errorf("event %s: %w", id, inbox.ErrNotFound) }

func wrongState(id string) error { return fmt.Errorf("event %s: %w", id, inbox.ErrState) }

func errClosed() error { return fmt.Errorf("inbox nats: %w", inbox.ErrClosed) }

// errNotReady says that no server has been reached since the inbox was opened.
var errNotReady = errors.New("NATS was not reached yet")

// errUnanswering says that a server was reached and the streams are not set up yet.
var errUnanswering = errors.New("NATS was reached, and has not said yet that the streams can be used")

// errDisconnected says that the connection is down.
var errDisconnected = errors.New("not connected to NATS")

// isUnreachable reports whether an error means that no server could be reached,
// which may change, rather than that a server refused.
func isUnreachable(err error) bool {
	for _, away := range []error{
		errNotReady, errDisconnected, context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoServers, nats.ErrNoResponders,
		nats.ErrConnectionClosed, nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded,
		jetstream.ErrNoStreamResponse, errNoLeader,
	} {
		if errors.Is(err, away) {
			return true
		}
	}
	var network net.Error
	var api *jetstream.APIError
	return errors.As(err, &network) || errors.As(err, &api) && (api.ErrorCode == codeNotAvailable || api.ErrorCode == codeOffline)
}

// failed translates an error for the caller.
func (s *store) failed(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, inbox.ErrNotFound), errors.Is(err, inbox.ErrState), errors.Is(err, inbox.ErrFull),
		errors.Is(err, inbox.ErrCursor), errors.Is(err, inbox.ErrBroken):
		return err
	case s.closed():
		return errClosed()
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("NATS did not answer within %s: %w", s.publishTimeout(), err)
	default:
		return err
	}
}

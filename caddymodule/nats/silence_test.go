package nats

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/natstest"
)

// The stream of states is on two servers of three, and one of them dies: it has no
// majority, and that of events has one. Events are stored, also after they were refused
// for a while, and the stream that is missed is named.
func TestEventsAreStoredWithoutAMajorityForTheirStates(t *testing.T) {
	c := natstest.New(t, natstest.Config{Nodes: 3})
	core, logs := observer.New(zap.InfoLevel)
	s := clustered(t, c, watchful, func(o *options) {
		o.log, o.settings.publishTimeout = zap.New(core), 2*time.Second
	})
	ctx := context.Background()
	edit(t, c.URLs()[0], "TEST_STATE", func(config *jetstream.StreamConfig) { config.Replicas = 2 })
	inboxtest.Eventually(t, func() bool {
		there, err := s.js.Stream(ctx, "TEST_STATE")
		if err != nil {
			return false
		}
		at := there.CachedInfo().Cluster
		return at.Leader != "" && len(at.Replicas) == 1 && at.Replicas[0].Current
	})
	leader, err := c.StreamLeader(ctx, "TEST_STATE")
	require.NoError(t, err)
	require.NoError(t, c.Kill(leader))

	eventually := func(f func() bool) {
		t.Helper()
		require.Eventually(t, f, time.Minute, 10*time.Millisecond) // others have to be elected
	}
	eventually(func() bool { return s.health.silent() != nil })
	require.ErrorContains(t, s.health.silent(), "stream TEST_STATE does not answer: too few of the servers")
	eventually(func() bool { return s.Probe(ctx) == nil })
	s.reportFailure(errors.New("the stream of events was away"))
	eventually(func() bool { return s.health.problem() == nil })
	e := inboxtest.NewEvent("task", inbox.Completed)
	putUntilStored(t, s, e)
	_, err = s.Stats(ctx)
	require.ErrorContains(t, err, "stream TEST_STATE does not answer")
	require.Equal(t, 1, logs.FilterMessageSnippet("not every stream answers").Len())

	eventually(func() bool { // a server that has been up for a while answers for a stream without a leader
		there, err := s.js.Stream(ctx, "TEST_STATE")
		return err == nil && there.CachedInfo().Cluster.Leader == ""
	})
	s.inspect()
	require.ErrorContains(t, s.health.silent(), "stream TEST_STATE does not answer")

	require.NoError(t, c.Restart(ctx, leader))
	eventually(func() bool { return s.health.silent() == nil })
	eventually(func() bool {
		_, err := s.Stats(ctx)
		return err == nil
	})
	require.Equal(t, 1, logs.FilterMessageSnippet("all streams answer again").Len())
	require.Equal(t, e, inboxtest.Lease(t, s.home, 1)[0].Event)
}

// What keeps events from being stored is known until the stream can be looked at again.
func TestABrokenStreamThatDoesNotAnswerStaysBroken(t *testing.T) {
	s := openWith(t, serve(t).ClientURL(), passive)
	broken := errGone(s.subjects.states())
	s.setHealth(broken)
	s.judge(inspection{replicas: 1, silent: silenceOf(s.subjects.states(), context.DeadlineExceeded)})
	require.Equal(t, broken, s.health.problem())
	s.judge(inspection{replicas: 1})
	require.NoError(t, s.health.problem())
}

func TestSilenceIsNoRefusal(t *testing.T) {
	for _, err := range []error{
		errNoLeader, context.DeadlineExceeded,
		&jetstream.APIError{Code: 503, ErrorCode: codeNotAvailable}, &jetstream.APIError{Code: 500, ErrorCode: codeOffline},
	} {
		require.ErrorContains(t, silenceOf("S", fmt.Errorf("looking at it: %w", err)), "stream S does not answer")
	}
	refused := &jetstream.APIError{Code: 500, ErrorCode: codeStorage}
	require.Equal(t, error(refused), silenceOf("S", refused))
}

package nats

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// late makes an inbox start without a server, and try to set up for as long as a test
// takes.
func late(o *options) {
	o.startWithoutServer, o.limits.setUp, o.limits.grace = true, time.Hour, time.Millisecond
}

// muted runs a server that has JetStream off, and on which requests are heard by somebody
// who does not answer. It returns how to end that.
func muted(t *testing.T, port int) (s *server.Server, heard <-chan *nats.Msg, unmute func()) {
	t.Helper()
	s = serve(t, fixed(port, ""), func(o *server.Options) { o.JetStream = false })
	conn, err := nats.Connect(s.ClientURL())
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	requests := make(chan *nats.Msg, 1000)
	sub, err := conn.ChanSubscribe("$JS.API.>", requests)
	require.NoError(t, err)
	require.NoError(t, conn.Flush())
	return s, requests, func() {
		require.NoError(t, sub.Unsubscribe())
		require.NoError(t, conn.Flush())
		require.NoError(t, s.EnableJetStream(&server.JetStreamConfig{StoreDir: t.TempDir(), MaxStore: 1 << 30, MaxMemory: 1 << 20}))
	}
}

// A request that nobody answers is sent again, as the servers that can answer it may come
// while the connection lasts. Until then it is not said that no server was reached.
func TestSetUpGoesOnWhenTheServersAnswer(t *testing.T) {
	port := freePort(t)
	s := openWith(t, "nats://127.0.0.1:"+strconv.Itoa(port), late)
	_, err := s.Stats(context.Background())
	require.ErrorIs(t, err, errNotReady)
	_, heard, unmute := muted(t, port)
	<-heard
	_, err = s.Stats(context.Background())
	require.ErrorIs(t, err, errUnanswering)
	unmute()
	e := inboxtest.NewEvent("task", inbox.Completed)
	putUntilStored(t, s, e)
	require.Equal(t, e, inboxtest.Lease(t, s.home, 1)[0].Event)
}

// A try ends with its connection, and the next connection begins another.
func TestSetUpBeginsAnewWithTheConnection(t *testing.T) {
	port := freePort(t)
	s := openWith(t, "nats://127.0.0.1:"+strconv.Itoa(port), late)
	first, heard, _ := muted(t, port)
	<-heard
	first.Shutdown()
	first.WaitForShutdown()
	inboxtest.Eventually(t, func() bool {
		_, err := s.Stats(context.Background())
		return err != nil && *s.setUpErr.Load() == errDisconnected //nolint:errorlint // exactly that
	})
	serve(t, fixed(port, t.TempDir()))
	putUntilStored(t, s, inboxtest.NewEvent("task", inbox.Completed))
}

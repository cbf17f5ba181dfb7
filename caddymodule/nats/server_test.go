package nats

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// serve runs a NATS server with JetStream until the test ends.
func serve(t testing.TB, change ...func(*server.Options)) *server.Server {
	t.Helper()
	o := &server.Options{
		ServerName: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true,
		JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 64 << 30, JetStreamMaxMemory: 64 << 20,
	}
	for _, f := range change {
		f(o)
	}
	s, err := server.NewServer(o)
	require.NoError(t, err)
	s.Start()
	require.True(t, s.ReadyForConnections(20*time.Second))
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

// testOptions are those of an inbox with one replica and a short lease.
func testOptions(url string) options {
	return options{
		name: "test", urls: []string{url}, stream: "TEST", log: zap.NewNop(),
		policy: inbox.Policy{Keep: time.Hour, Quarantine: 10}, limits: defaultLimits,
		settings: settings{replicas: 1, maxSize: 32 << 20, lease: time.Second, publishTimeout: 5 * time.Second},
	}
}

// with opens an inbox that the test closes.
func with(t testing.TB, url string, change ...func(*options)) *store {
	t.Helper()
	o := testOptions(url)
	for _, f := range change {
		f(&o)
	}
	s, err := open(context.Background(), o, new(secrets))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// crash ends an inbox as the death of its process does: nothing is said.
func crash(s *store) {
	s.conn.Close()
	_ = s.Close()
}

var contents atomic.Int64

// newEvent makes one that no other equals.
func newEvent(task string, status inbox.Status) *inbox.Event {
	n := contents.Add(1)
	return &inbox.Event{
		ID: inbox.NewID(task, fmt.Append(nil, n)), TaskID: task, Type: "avatar", Status: status,
		ReceivedAt: time.Now().UTC().Truncate(time.Microsecond), Body: fmt.Appendf(nil, `{"n":%d}`, n),
	}
}

func put(t testing.TB, s *store, events ...*inbox.Event) {
	t.Helper()
	for _, e := range events {
		duplicateOf, err := s.Put(context.Background(), e)
		require.NoError(t, err)
		require.Empty(t, duplicateOf)
	}
}

// leases takes what is due until it has n.
func leases(t testing.TB, s *store, n int) (all []*inbox.Lease) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for len(all) < n {
		more, err := s.Lease(ctx, n-len(all))
		require.NoError(t, err)
		all = append(all, more...)
	}
	return all
}

func outcomes(v inbox.Verdict, leases ...*inbox.Lease) []inbox.Outcome {
	all := make([]inbox.Outcome, len(leases))
	for i, l := range leases {
		all[i] = inbox.Outcome{Lease: l, Verdict: v, Attempt: inbox.Attempt{At: time.Now()}}
	}
	return all
}

func settle(t testing.TB, s *store, v inbox.Verdict, leases ...*inbox.Lease) {
	t.Helper()
	require.NoError(t, s.Settle(context.Background(), outcomes(v, leases...)...))
}

// nothingElse checks that an event that is put now is the only one due.
func nothingElse(t testing.TB, s *store) {
	t.Helper()
	e := newEvent(fmt.Sprint("sentinel ", contents.Load()), inbox.Completed)
	put(t, s, e)
	l := leases(t, s, 1)
	require.Equal(t, e, l[0].Event)
	settle(t, s, inbox.Deliver, l...)
}

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, 10*time.Millisecond)
}

package nats

import (
	"context"
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

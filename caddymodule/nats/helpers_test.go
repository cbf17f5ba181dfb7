package nats

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/natstest"
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

// testOptions returns the options of an inbox with one replica and a short
// lease.
func testOptions(url string, change ...func(*options)) options {
	o := options{
		name: "test", urls: []string{url}, stream: "TEST", log: zap.NewNop(),
		policy: inbox.Policy{Keep: time.Hour, Quarantine: 10}, limits: defaultLimits,
		settings: settings{replicas: 1, maxSize: 32 << 20, lease: time.Second, publishTimeout: 5 * time.Second},
	}
	for _, f := range change {
		f(&o)
	}
	return o
}

// openWith opens an inbox. It is closed when the test ends.
func openWith(t testing.TB, url string, change ...func(*options)) *store {
	t.Helper()
	s, err := open(context.Background(), testOptions(url, change...), new(secrets))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// crash ends an inbox as the death of its process would, without a word to the
// server.
func crash(s *store) {
	s.conn.Close()
	_ = s.Close()
}

// nothingElse checks that no event is due but one that is put now.
func nothingElse(t testing.TB, s *store) {
	t.Helper()
	e := inboxtest.NewEvent(rand.Text(), inbox.Completed)
	inboxtest.Put(t, s, e)
	l := inboxtest.Lease(t, s.home, 1)
	require.Equal(t, e, l[0].Event)
	inboxtest.Settle(t, s.home, inbox.Deliver, l...)
}

// admin returns a client that bypasses the inbox.
func admin(t testing.TB, url string) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(url)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	return js
}

// refused returns the error of opening an inbox.
func refused(t testing.TB, url string, change ...func(*options)) error {
	t.Helper()
	_, err := open(context.Background(), testOptions(url, change...), new(secrets))
	require.Error(t, err)
	return err
}

// edit changes a stream as "nats stream edit" does.
func edit(t testing.TB, url, name string, change func(*jetstream.StreamConfig)) {
	t.Helper()
	config := stream(t, url, name).CachedInfo().Config
	change(&config)
	_, err := admin(t, url).UpdateStream(context.Background(), config)
	require.NoError(t, err)
}

// watchful makes an inbox inspect its streams all the time.
func watchful(o *options) { o.limits.maintenance, o.limits.inspect = time.Hour, 20*time.Millisecond }

// passive makes an inbox do nothing by itself.
func passive(o *options) { o.limits.maintenance, o.limits.inspect = time.Hour, time.Hour }

// afterMaintenance waits for the round of maintenance that follows the opening.
// A claim on removal that it made would otherwise be released in the middle of a
// test.
func afterMaintenance(t testing.TB, s *store) *store {
	t.Helper()
	inboxtest.Eventually(t, func() bool { return s.rounds.Load() > 0 })
	l, _, err := s.readLedger(context.Background())
	require.NoError(t, err)
	require.NotNil(t, l)
	return s
}

func stream(t testing.TB, url, name string) jetstream.Stream {
	t.Helper()
	st, err := admin(t, url).Stream(context.Background(), name)
	require.NoError(t, err)
	return st
}

// idle keeps an inbox from running maintenance by itself.
func idle(o *options) { o.limits.maintenance = time.Hour }

// deliver puts and delivers n events, each of its own task.
func deliver(t testing.TB, s *store, n int) (events []*inbox.Event) {
	t.Helper()
	var wg sync.WaitGroup
	lanes := make([][]*inbox.Event, 32)
	for lane := range lanes {
		wg.Go(func() {
			for i := lane; i < n; i += len(lanes) {
				e := inboxtest.NewEvent(fmt.Sprint("task ", i), inbox.Completed)
				if _, err := s.Put(context.Background(), e); err != nil {
					t.Error(err)
				}
				lanes[lane] = append(lanes[lane], e)
			}
		})
	}
	wg.Wait()
	for _, lane := range lanes {
		events = append(events, lane...)
	}
	for done := 0; done < n; {
		l, err := s.home.Lease(context.Background(), 100)
		require.NoError(t, err)
		inboxtest.Settle(t, s.home, inbox.Deliver, l...)
		done += len(l)
	}
	return events
}

// fixed makes a server use a port and a directory, so that it can be restarted.
func fixed(port int, dir string) func(*server.Options) {
	return func(o *server.Options) { o.Port, o.StoreDir = port, dir }
}

// freePort returns a port on which a server can be started again and again.
func freePort(t testing.TB) int {
	t.Helper()
	ports, err := natstest.FreePorts(t.Context(), 1)
	require.NoError(t, err)
	return ports[0]
}

// smallLimits are so small that tests reach each of them soon.
var smallLimits = limits{
	scan: 10, window: 3, parked: 2, attempts: 100,
	expires: 100 * time.Millisecond, unclaimed: 50 * time.Millisecond, maintenance: 50 * time.Millisecond,
	inspect: 50 * time.Millisecond, known: 100 * time.Millisecond,
	find: 2 * time.Second,
}

// home is where the records of the streams of testOptions are.
var home = subjects{"TEST"}.home()

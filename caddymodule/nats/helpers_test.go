package nats

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
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

// openWith opens an inbox that the test closes.
func openWith(t testing.TB, url string, change ...func(*options)) *store {
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

// nothingElse checks that an event that is put now is the only one due.
func nothingElse(t testing.TB, s *store) {
	t.Helper()
	e := inboxtest.NewEvent(rand.Text(), inbox.Completed)
	inboxtest.Put(t, s, e)
	l := inboxtest.Lease(t, s, 1)
	require.Equal(t, e, l[0].Event)
	inboxtest.Settle(t, s, inbox.Deliver, l...)
}

// admin is a client beside the inbox.
func admin(t testing.TB, url string) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(url)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	return js
}

// refused opens an inbox that cannot be opened.
func refused(t testing.TB, url string, change ...func(*options)) error {
	t.Helper()
	o := testOptions(url)
	for _, f := range change {
		f(&o)
	}
	_, err := open(context.Background(), o, new(secrets))
	require.Error(t, err)
	return err
}

// edit changes a stream as somebody does with "nats stream edit".
func edit(t testing.TB, url, name string, change func(*jetstream.StreamConfig)) {
	t.Helper()
	config := stream(t, url, name).CachedInfo().Config
	change(&config)
	_, err := admin(t, url).UpdateStream(context.Background(), config)
	require.NoError(t, err)
}

// watchful is an inbox that looks at its streams all the time.
func watchful(o *options) { o.limits.maintenance, o.limits.inspect = time.Hour, 20*time.Millisecond }

// passive is an inbox that does nothing by itself.
func passive(o *options) { o.limits.maintenance, o.limits.inspect = time.Hour, time.Hour }

// settled waits until the chores with which an inbox begins are done.
func afterMaintenance(t testing.TB, s *store) *store {
	t.Helper()
	inboxtest.Eventually(t, func() bool {
		l, _, err := s.readLedger(context.Background())
		return err == nil && l != nil
	})
	return s
}

func stream(t testing.TB, url, name string) jetstream.Stream {
	t.Helper()
	st, err := admin(t, url).Stream(context.Background(), name)
	require.NoError(t, err)
	return st
}

// idle keeps an inbox from tidying up by itself.
func idle(o *options) { o.limits.maintenance = time.Hour }

// deliver puts and delivers events of tasks of their own.
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
		l, err := s.Lease(context.Background(), 100)
		require.NoError(t, err)
		inboxtest.Settle(t, s, inbox.Deliver, l...)
		done += len(l)
	}
	return events
}

// fixed lets a server be started again with what it had.
func fixed(port int, dir string) func(*server.Options) {
	return func(o *server.Options) { o.Port, o.StoreDir = port, dir }
}

// freePort returns a port that nobody listens at.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it only asks for a port
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// smallLimits make every boundary come soon.
var smallLimits = limits{
	scan: 10, window: 3, parked: 2, attempts: 100,
	expires: 100 * time.Millisecond, unclaimed: 50 * time.Millisecond, maintenance: 50 * time.Millisecond,
	inspect: 50 * time.Millisecond, known: 100 * time.Millisecond,
}

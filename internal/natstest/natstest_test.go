package natstest

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// connect returns a client that reconnects until the test ends.
func connect(t *testing.T, urls ...string) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(urls[0], nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.PingInterval(500*time.Millisecond), nats.MaxPingsOutstanding(2),
		func(o *nats.Options) error { o.Servers = urls; return nil })
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	return js
}

func createStream(t *testing.T, js jetstream.JetStream, replicas int) jetstream.Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: "S", Subjects: []string{"s.>"}, Replicas: replicas, MaxBytes: 64 << 20,
	})
	require.NoError(t, err)
	return stream
}

// publish publishes until it is acknowledged.
func publish(t *testing.T, js jetstream.JetStream, subject string) {
	t.Helper()
	require.NoError(t, await(t.Context(), "publishing "+subject, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := js.Publish(ctx, subject, []byte("x"), jetstream.WithMsgID(subject))
		return err
	}))
}

func stored(t *testing.T, stream jetstream.Stream) int {
	t.Helper()
	var info *jetstream.StreamInfo
	require.NoError(t, await(t.Context(), "asking for the stream", func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		info, err = stream.Info(ctx)
		return err
	}))
	return int(info.State.Msgs)
}

func TestOneNode(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
	c := New(t, Config{Nodes: 1, MaxPayload: 1000})
	js := connect(t, c.URLs()...)
	require.EqualValues(t, 1000, js.Conn().MaxPayload())
	stream := createStream(t, js, 1)
	publish(t, js, "s.before")
	leader, err := c.StreamLeader(t.Context(), "S")
	require.NoError(t, err)
	require.Zero(t, leader)

	require.NoError(t, c.Kill(0))
	require.ErrorContains(t, c.Kill(0), "does not run")
	require.NoError(t, c.Restart(t.Context(), 0))
	require.ErrorContains(t, c.Restart(t.Context(), 0), "runs")
	require.NoError(t, c.AwaitHealthy(t.Context()))
	publish(t, js, "s.after")
	require.Equal(t, 2, stored(t, stream))
}

// A cluster keeps what it acknowledged, whichever server is killed or cut off.
func TestCluster(t *testing.T) {
	for _, separate := range []bool{false, true} {
		t.Run(fmt.Sprint("separate ", separate), func(t *testing.T) {
			ignore := goleak.IgnoreCurrent()
			t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
			c := New(t, Config{Nodes: 3, Separate: separate, Cuttable: true})
			js := connect(t, c.URLs()...)
			stream := createStream(t, js, 3)
			publish(t, js, "s.first")

			leader, err := c.StreamLeader(t.Context(), "S")
			require.NoError(t, err)
			require.NoError(t, c.Kill(leader))
			publish(t, js, "s.killed")
			next, err := c.StreamLeader(t.Context(), "S")
			require.NoError(t, err)
			assert.NotEqual(t, leader, next)
			require.NoError(t, c.Restart(t.Context(), leader))
			require.NoError(t, c.AwaitHealthy(t.Context()))

			c.Cut(next)
			alone, err := nats.Connect(c.URLs()[next], nats.Timeout(200*time.Millisecond))
			if err == nil {
				alone.Close()
			}
			require.Error(t, err, "a server that is cut off takes a connection")
			publish(t, js, "s.cut")
			third, err := c.StreamLeader(t.Context(), "S")
			require.NoError(t, err)
			assert.NotEqual(t, next, third)
			c.Mend(next)
			require.NoError(t, c.AwaitHealthy(t.Context()))
			publish(t, js, "s.mended")
			require.Equal(t, 4, stored(t, stream))
		})
	}
}

func TestAClusterOfTwoIsAnError(t *testing.T) {
	_, err := Start(t.Context(), Config{Nodes: 2, Dir: t.TempDir()})
	require.ErrorContains(t, err, "expected 1, or 3 or more")
}

// If a separate server cannot start, the error has what it printed.
func TestSeparateServerThatCannotStart(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	n := &node{settings: settings{Name: "n0", Dir: t.TempDir(), Port: listener.Addr().(*net.TCPAddr).Port}}
	err = n.start(t.Context(), true)
	require.ErrorContains(t, err, "n0 did not start")
	require.ErrorContains(t, err, "address already in use")
}

package nats

import (
	"context"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

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

func TestAStreamOfSomebodyElseIsLeftAlone(t *testing.T) {
	url := serve(t).ClientURL()
	js := admin(t, url)
	foreign, err := js.CreateStream(context.Background(), jetstream.StreamConfig{Name: "TEST", Subjects: []string{"TEST.event.>"}})
	require.NoError(t, err)
	require.ErrorContains(t, refused(t, url), "stream TEST is there and was not made by the gateway; it is left as it is")
	after, err := foreign.Info(context.Background())
	require.NoError(t, err)
	require.Equal(t, foreign.CachedInfo().Config, after.Config)
}

func TestAStreamThatWasSpoiltIsRefused(t *testing.T) {
	url := serve(t).ClientURL()
	require.NoError(t, with(t, url).Close())
	js := admin(t, url)
	stream, err := js.Stream(context.Background(), "TEST")
	require.NoError(t, err)
	config := stream.CachedInfo().Config
	config.MaxAge, config.Discard = 1e12, jetstream.DiscardOld
	_, err = js.UpdateStream(context.Background(), config)
	require.NoError(t, err)
	err = refused(t, url)
	require.ErrorContains(t, err, "stream TEST cannot be used: discard is DiscardOld and must be DiscardNew")
	require.ErrorContains(t, err, "max_age is")
}

func TestALargerSizeIsBroughtToTheStream(t *testing.T) {
	url := serve(t).ClientURL()
	s := with(t, url)
	(&Inbox{Replicas: 1, MaxSize: 64 << 20, Lease: 2e9, PublishTimeout: 1e9}).Apply(s, inbox.Policy{Quarantine: 3})
	js := admin(t, url)
	eventually(t, func() bool {
		stream, err := js.Stream(context.Background(), "TEST")
		require.NoError(t, err)
		c, err := js.Consumer(context.Background(), "TEST", consumer)
		require.NoError(t, err)
		q, err := js.Stream(context.Background(), "TEST_QUARANTINE")
		require.NoError(t, err)
		return stream.CachedInfo().Config.MaxBytes == 64<<20 && c.CachedInfo().Config.AckWait == 2e9 && q.CachedInfo().Config.MaxMsgs == 3
	})
}

func TestMoreReplicasThanServersAreRefused(t *testing.T) {
	url := serve(t).ClientURL()
	require.ErrorContains(t, refused(t, url, func(o *options) { o.settings.replicas = 3 }), "making stream TEST with 3 replicas")
}

func TestAnEventLargerThanTheServersMessagesIsRefusedAtOpen(t *testing.T) {
	url := serve(t, func(o *server.Options) { o.MaxPayload = 64 << 10 }).ClientURL()
	with(t, url, func(o *options) { o.policy.MaxEvent = 48 << 10 })
	err := refused(t, url, func(o *options) { o.policy.MaxEvent = 48<<10 + 1 })
	require.ErrorContains(t, err, "raise max_payload of the NATS servers or lower max_body")
}

func TestAConsumerThatWasRemovedRepeatsNothing(t *testing.T) {
	url := serve(t).ClientURL()
	s := with(t, url)
	e := newEvent("task", inbox.Completed)
	put(t, s, e)
	settle(t, s, inbox.Deliver, leases(t, s, 1)...)
	waits := newEvent("other", inbox.Completed)
	put(t, s, waits)
	require.NoError(t, s.Close())
	require.NoError(t, admin(t, url).DeleteConsumer(context.Background(), "TEST", consumer))
	s = with(t, url)
	require.Equal(t, waits, leases(t, s, 1)[0].Event)
	nothingElse(t, s)
}

func TestOneReplicaIsWarnedOf(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	with(t, serve(t).ClientURL(), func(o *options) { o.log = zap.New(core) })
	require.Len(t, logs.FilterMessageSnippet("the stream has one replica").All(), 1)
}

func TestAFullStreamIsFull(t *testing.T) {
	s := with(t, serve(t).ClientURL(), func(o *options) { o.settings.maxSize = 1 << 20 })
	var stored []*inbox.Event
	for {
		e := newEvent("task", inbox.Completed)
		e.Body = make([]byte, 100<<10)
		if _, err := s.Put(context.Background(), e); err != nil {
			require.ErrorIs(t, err, inbox.ErrFull)
			break
		}
		stored = append(stored, e)
		require.Less(t, len(stored), 20)
	}
	require.NotEmpty(t, stored)
	// Deliveries are recorded all the same, and make room.
	for _, e := range stored {
		l := leases(t, s, 1)
		require.Equal(t, e.ID, l[0].Event.ID)
		settle(t, s, inbox.Deliver, l...)
	}
	require.NoError(t, s.Purge(context.Background(), stored[0].ID))
	put(t, s, newEvent("task", inbox.Completed))
}

package nats

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

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
	require.NoError(t, openWith(t, url).Close())
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
	s := openWith(t, url)
	(&Inbox{Replicas: 1, MaxSize: 64 << 20, Lease: 2e9, PublishTimeout: 1e9}).Apply(s, inbox.Policy{Quarantine: 3})
	js := admin(t, url)
	inboxtest.Eventually(t, func() bool {
		stream, err := js.Stream(context.Background(), "TEST")
		require.NoError(t, err)
		c, err := js.Consumer(context.Background(), "TEST", consumerName)
		require.NoError(t, err)
		q, err := js.Stream(context.Background(), "TEST_QUARANTINE")
		require.NoError(t, err)
		return stream.CachedInfo().Config.MaxBytes == 64<<20 && c.CachedInfo().Config.AckWait == 2e9 && q.CachedInfo().Config.MaxMsgs == 4
	})
}

// A reload with the same config undoes a smaller limit that somebody set by hand.
func TestALimitThatWasChangedIsRestoredByAReload(t *testing.T) {
	url := serve(t).ClientURL()
	s := afterMaintenance(t, openWith(t, url))
	js := admin(t, url)
	stream, err := js.Stream(context.Background(), "TEST")
	require.NoError(t, err)
	config := stream.CachedInfo().Config
	before := config.MaxBytes
	config.MaxBytes = 1 << 10
	_, err = js.UpdateStream(context.Background(), config)
	require.NoError(t, err)
	s.apply(*s.current.Load(), nil)
	inboxtest.Eventually(t, func() bool {
		info, err := stream.Info(context.Background())
		return err == nil && info.Config.MaxBytes == before
	})
}

func TestMoreReplicasThanServersAreRefused(t *testing.T) {
	url := serve(t).ClientURL()
	require.ErrorContains(t, refused(t, url, func(o *options) { o.settings.replicas = 3 }), "making stream TEST with 3 replicas")
}

func TestAnEventLargerThanTheServersMessagesIsRefusedAtOpen(t *testing.T) {
	url := serve(t, func(o *server.Options) { o.MaxPayload = 64 << 10 }).ClientURL()
	openWith(t, url, func(o *options) { o.policy.MaxEvent = 48 << 10 })
	err := refused(t, url, func(o *options) { o.policy.MaxEvent = 48<<10 + 1 })
	require.ErrorContains(t, err, "set max_payload of the NATS servers to 65537 or more, or lower max_body of the handler")
}

func TestAReloadThatMakesEventsTooLargeIsToldOf(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	url := serve(t, func(o *server.Options) { o.MaxPayload = 64 << 10 }).ClientURL()
	s := openWith(t, url, func(o *options) { o.policy.MaxEvent, o.log = 48<<10, zap.New(core) })
	s.SetPolicy(inbox.Policy{Keep: time.Hour, MaxEvent: 48 << 10})
	require.Zero(t, logs.Len())
	s.SetPolicy(inbox.Policy{Keep: time.Hour, MaxEvent: 48<<10 + 1})
	require.Equal(t, 1, logs.FilterMessage("the largest callbacks cannot be stored any more").Len())
}

func TestAConsumerThatWasRemovedRepeatsNothing(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url)
	e := inboxtest.NewEvent("task", inbox.Completed)
	inboxtest.Put(t, s, e)
	inboxtest.Settle(t, s.home, inbox.Deliver, inboxtest.Lease(t, s.home, 1)...)
	waits := inboxtest.NewEvent("other", inbox.Completed)
	inboxtest.Put(t, s, waits)
	require.NoError(t, s.Close())
	require.NoError(t, admin(t, url).DeleteConsumer(context.Background(), "TEST", consumerName))
	s = openWith(t, url)
	require.Equal(t, waits, inboxtest.Lease(t, s.home, 1)[0].Event)
	nothingElse(t, s)
}

func TestOneReplicaIsWarnedOf(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	openWith(t, serve(t).ClientURL(), func(o *options) { o.log = zap.New(core) })
	require.Len(t, logs.FilterMessageSnippet("the stream has one replica").All(), 1)
}

func TestAFullStreamIsFull(t *testing.T) {
	s := openWith(t, serve(t).ClientURL(), func(o *options) { o.settings.maxSize = 1 << 20 })
	var stored []*inbox.Event
	for {
		e := inboxtest.NewEvent("task", inbox.Completed)
		e.Body = make([]byte, 100<<10)
		if _, err := s.Put(context.Background(), e); err != nil {
			require.ErrorIs(t, err, inbox.ErrFull)
			break
		}
		stored = append(stored, e)
		require.Less(t, len(stored), 20)
	}
	require.NotEmpty(t, stored)
	// Deliveries are still recorded, and make room early: the events that ended
	// first are removed.
	kept := stored[0]
	for i, e := range stored {
		l := inboxtest.Lease(t, s.home, 1)
		require.Equal(t, e.ID, l[0].Event.ID)
		v := inbox.Deliver
		if i == 0 {
			v = inbox.GiveUp
		}
		inboxtest.Settle(t, s.home, v, l...)
	}
	next := inboxtest.NewEvent("task", inbox.Completed)
	next.Body = make([]byte, 100<<10)
	inboxtest.Eventually(t, func() bool {
		_, err := s.Put(context.Background(), next)
		require.True(t, err == nil || errors.Is(err, inbox.ErrFull), "%v", err)
		return err == nil
	})
	_, err := s.Get(context.Background(), stored[1].ID)
	require.ErrorIs(t, err, inbox.ErrNotFound)
	for _, e := range []*inbox.Event{kept, stored[len(stored)-1], next} {
		_, err := s.Get(context.Background(), e.ID)
		require.NoError(t, err, "dead, just ended, or new")
	}
	stats, err := s.Stats(context.Background())
	require.NoError(t, err)
	require.Greater(t, stats.Events[inbox.Delivered], int64(len(stored)/2), "no more than must goes")
}

// A stream that has room keeps what was delivered.
func TestNothingGoesEarlyWhileThereIsRoom(t *testing.T) {
	s := openWith(t, serve(t).ClientURL(), func(o *options) {
		o.settings.maxSize, o.limits.maintenance = 1<<20, time.Millisecond
	})
	var stored []*inbox.Event
	for range 8 {
		e := inboxtest.NewEvent("task", inbox.Completed)
		e.Body = make([]byte, 100<<10)
		inboxtest.Put(t, s, e)
		inboxtest.Settle(t, s.home, inbox.Deliver, inboxtest.Lease(t, s.home, 1)...)
		stored = append(stored, e)
	}
	surplus, err := s.surplus(context.Background())
	require.NoError(t, err)
	require.Zero(t, surplus)
	for _, e := range stored {
		_, err := s.Get(context.Background(), e.ID)
		require.NoError(t, err)
	}
}

func TestAnEventWithAVeryLongTaskAndTypeIsStored(t *testing.T) {
	s := openWith(t, serve(t).ClientURL())
	ctx := context.Background()
	for _, length := range []int{1, maxHeader, maxHeader + 1, 100 << 10} {
		for _, long := range []struct{ task, kind string }{
			{strings.Repeat("t", length), "avatar"},
			{"task", strings.Repeat("é", length)},
			{strings.Repeat("%", length), strings.Repeat("%", length)},
		} {
			e := inboxtest.NewEvent(long.task, inbox.Completed)
			e.Type = long.kind
			e.Body = fmt.Appendf(nil, `{"taskId":%q,"type":%q,"n":%q}`, e.TaskID, e.Type, rand.Text())
			inboxtest.Put(t, s, e)
			l := inboxtest.Lease(t, s.home, 1)
			require.Equal(t, e, l[0].Event)
			inboxtest.Settle(t, s.home, inbox.Deliver, l...)
			r, err := s.Get(ctx, e.ID)
			require.NoError(t, err)
			require.Equal(t, e, r.Event)
		}
	}
	e := inboxtest.NewEvent(strings.Repeat("t", maxHeader+1), inbox.Completed)
	_, err := s.Put(ctx, e)
	require.ErrorContains(t, err, "a body that does not name them")
}

// If a replica lags, the records of an event that it does not have yet must not
// be taken for those of an earlier event with the same id.
func TestRecordsOfALaterEventWithTheSameIDAreNotMisread(t *testing.T) {
	s := openWith(t, serve(t).ClientURL())
	ctx := context.Background()
	e := inboxtest.NewEvent("task", inbox.Completed)
	inboxtest.Put(t, s, e)
	before, err := s.home.task(ctx, e.ID)
	require.NoError(t, err)
	require.NoError(t, s.Purge(ctx, e.ID, ""))
	inboxtest.Put(t, s, e)
	inboxtest.Settle(t, s.home, inbox.Deliver, inboxtest.Lease(t, s.home, 1)...)
	require.NoError(t, s.Replay(ctx, e.ID, ""))
	records, err := s.latest(ctx, home.stream, home.statesOf(e.ID))
	require.NoError(t, err)
	h, err := historyOf(before[0].stored, home, records)
	require.NoError(t, err)
	require.True(t, h.newer)
	now, err := s.home.find(ctx, e.ID)
	require.NoError(t, err)
	require.False(t, now.newer)
}

func TestAnImportBringsAsMuchAsFits(t *testing.T) {
	s := openWith(t, serve(t, func(o *server.Options) { o.MaxPayload = 64 << 10 }).ClientURL())
	ctx := context.Background()
	var attempts []inbox.Attempt
	for n := range 100 {
		attempts = append(attempts, inbox.Attempt{At: time.UnixMicro(1e15 + int64(n)).UTC(), Reason: strings.Repeat("x", inbox.MaxReason)})
	}
	e := inboxtest.NewEvent("task", inbox.Completed)
	e.Body = make([]byte, 48<<10)
	imported := inboxtest.Record(e, inbox.Progress{State: inbox.Dead, Attempts: 100, SettledAt: time.Now()}, attempts)
	replays := &imported.Deliveries[0].Replays
	for n := range 100 {
		*replays = append(*replays, inbox.Replay{At: time.UnixMicro(1e15 + int64(n)).UTC(), After: n, From: strings.Repeat("x", 64)})
	}
	_, err := s.Import(ctx, imported)
	require.NoError(t, err)
	r, err := s.Get(ctx, e.ID)
	got := inboxtest.Log(r)
	require.NoError(t, err)
	require.Equal(t, 100, r.Attempts)
	require.NotEmpty(t, got)
	require.Equal(t, attempts[100-len(got):], got, "the last ones")
	require.Equal(t, (*replays)[100-len(got):], r.Deliveries[0].Replays)

	suspect := &inbox.Suspect{ReceivedAt: time.Now(), Body: make([]byte, 60<<10), Problems: make([]byte, 10<<10)}
	require.NoError(t, s.Quarantine(ctx, suspect))
	there, err := s.Suspect(ctx, suspect.ID)
	require.NoError(t, err)
	require.Equal(t, suspect.Body, there.Body)
	require.Equal(t, "[]", string(there.Problems))
}

// An answer of the server has at most 1024 messages.
func TestMoreThanOneAnswerIsPutTogether(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url)
	js := admin(t, url)
	ids := []string{inboxtest.NewEvent("one", inbox.Completed).ID, inboxtest.NewEvent("other", inbox.Completed).ID}
	const each = maxLatest/2 + 1
	for n := range 2 * each {
		_, err := js.PublishAsync(s.subjects.event(ids[n%2][:keyLength]+fmt.Sprintf("%032d", n)), nil)
		require.NoError(t, err)
	}
	<-js.PublishAsyncComplete()
	messages, err := s.latest(context.Background(), s.subjects.stream, s.subjects.task(ids[0]), s.subjects.task(ids[1]))
	require.NoError(t, err)
	require.Len(t, messages, 2*each)
	for n, m := range messages {
		require.EqualValues(t, n+1, m.seq)
	}
}

// Callbacks quarantined by an older release stay, and its stream is updated.
func TestQuarantineOfAnOlderRelease(t *testing.T) {
	url := serve(t).ClientURL()
	ctx := context.Background()
	js := admin(t, url)
	_, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: "TEST_QUARANTINE", Subjects: []string{"TEST.quarantine"}, Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage,
		Replicas: 1, AllowDirect: true, Metadata: map[string]string{layoutKey: layout}, MaxMsgs: 3, MaxBytes: -1, MaxMsgsPerSubject: -1,
		Duplicates: time.Second,
	})
	require.NoError(t, err)
	at := time.UnixMicro(1e15).UTC()
	for _, body := range []string{"a", "b"} {
		head := `{"received":1000000000000000,"source":"::1","status":422,"problems":"W10="}`
		_, err := js.Publish(ctx, "TEST.quarantine", append([]byte{byte(len(head))}, head+body...))
		require.NoError(t, err)
	}
	s := openWith(t, url, func(o *options) { o.policy.Quarantine = 3 })
	b := &inbox.Suspect{ID: 2, ReceivedAt: at, Last: at, Count: 1, SourceIP: "::1", Status: 422, Problems: []byte("[]"), Body: []byte("b")}
	got, err := s.Suspect(ctx, 2)
	require.NoError(t, err)
	require.Equal(t, b, got)
	for range 5 {
		q := &inbox.Suspect{ReceivedAt: at, Status: 400, Body: []byte("c")}
		require.NoError(t, s.Quarantine(ctx, q))
		require.EqualValues(t, 3, q.ID)
	}
	_, err = s.Suspect(ctx, 7)
	require.ErrorIs(t, err, inbox.ErrNotFound, "the number of a message is no id")
	list, _, err := s.Suspects(ctx, inbox.Page{})
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.EqualValues(t, 5, list[0].Count)
	require.Equal(t, b, list[1])
	require.NoError(t, s.Quarantine(ctx, &inbox.Suspect{ReceivedAt: at, Status: 400, Body: []byte("d")}))
	_, err = s.Suspect(ctx, 1)
	require.ErrorIs(t, err, inbox.ErrNotFound)
	require.NoError(t, s.Unquarantine(ctx, 2))
	require.NoError(t, s.Close())
	openWith(t, url, func(o *options) { o.policy.Quarantine = 3 })
}

// The streams of an inbox have its name with something appended, and another inbox may be
// called like that. To change such a stream would break the other one.
func TestTheStreamOfAnotherInboxIsNamed(t *testing.T) {
	named := func(name string) func(*options) { return func(o *options) { o.stream = name } }
	for _, clash := range []struct{ first, second, says string }{
		{"TEST", "TEST_STATE", "stream TEST_STATE cannot be used: it is that of another inbox, with the option stream TEST, "},
		{"TEST_QUARANTINE", "TEST", "stream TEST_QUARANTINE cannot be used: it is that of another inbox, with the option stream TEST_QUARANTINE, "},
	} {
		t.Run(clash.first, func(t *testing.T) {
			url := serve(t).ClientURL()
			openWith(t, url, named(clash.first))
			err := refused(t, url, named(clash.second))
			require.ErrorContains(t, err, clash.says)
			require.NotContains(t, err.Error(), "nats stream edit")
		})
	}
	url := serve(t).ClientURL()
	s := openWith(t, url, named("TEST_TO_app"))
	inboxtest.Put(t, s, inboxtest.NewEvent("task", inbox.Completed))
	_, err := openWith(t, url).Queue(context.Background(), "app")
	require.ErrorContains(t, err, "stream TEST_TO_app cannot be used: it is that of another inbox, with the option stream TEST_TO_app, ")
	edit(t, url, "TEST_TO_app", func(c *jetstream.StreamConfig) { c.Subjects = []string{"TEST_TO_app.events"} })
	require.ErrorContains(t, refused(t, url, named("TEST_TO_app")), "nats stream edit TEST_TO_app --subjects=TEST_TO_app.event.>", "nobody else's")
}

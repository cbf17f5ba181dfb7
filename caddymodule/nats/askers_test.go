package nats

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/natstest"
)

const account = "0123456789abcdef"

func register(t testing.TB, s *store, rate float64) inbox.Askers {
	t.Helper()
	askers, err := s.Register(context.Background(), inbox.Asker{Account: account, Rate: rate})
	require.NoError(t, err)
	return askers
}

func TestAskersOfOneAccountAreCounted(t *testing.T) {
	url := serve(t).ClientURL()
	a, b, c := openWith(t, url), openWith(t, url), openWith(t, url)
	ctx := context.Background()
	require.Equal(t, inbox.Askers{Count: 1, Rate: 5}, register(t, a, 5))
	require.Equal(t, inbox.Askers{Count: 2, Rate: 3}, register(t, b, 3), "the lowest rate counts")
	require.Equal(t, inbox.Askers{Count: 2, Rate: 3}, register(t, a, 5), "once each")
	other, err := c.Register(ctx, inbox.Asker{Account: "another", Rate: 1})
	require.NoError(t, err)
	require.Equal(t, inbox.Askers{Count: 1, Rate: 1}, other)
	require.Equal(t, inbox.Askers{Count: 3, Rate: 3}, register(t, c, 8))

	require.NoError(t, b.Unregister(ctx, account))
	require.NoError(t, b.Unregister(ctx, account))
	require.Equal(t, inbox.Askers{Count: 2, Rate: 5}, register(t, a, 5))
	other, err = c.Register(ctx, inbox.Asker{Account: "another", Rate: 1})
	require.NoError(t, err)
	require.Equal(t, inbox.Askers{Count: 1, Rate: 1}, other)
	require.Zero(t, waitingTasks(t, a), "they are no tasks")
}

// Nothing but the server's clock decides when one that has died is not counted any more.
func TestWhatADeadAskerLeftGoesAway(t *testing.T) {
	url := serve(t).ClientURL()
	a, dead := openWith(t, url), openWith(t, url)
	register(t, a, 2)
	js := admin(t, url)
	const others = 10_000 // whatever has left them
	for i := range others {
		_, err := js.PublishAsync(fmt.Sprintf("TEST.asker.%s.%d", account, i), []byte(`{"rate":2}`), jetstream.WithMsgTTL(time.Hour), jetstream.WithStallWait(time.Minute))
		require.NoError(t, err)
	}
	<-js.PublishAsyncComplete()
	began := time.Now()
	require.Equal(t, inbox.Askers{Count: others + 2, Rate: 2}, register(t, dead, 2))
	crash(dead)
	inboxtest.Eventually(t, func() bool { return register(t, a, 2).Count == others+1 })
	require.Greater(t, time.Since(began), inbox.AskerLife-time.Second, "not before its life has ended")
	info, err := stream(t, url, "TEST_TASKS").Info(context.Background())
	require.NoError(t, err)
	require.EqualValues(t, others+1, info.State.Msgs, "nothing is left")
}

func TestAskersThatBeginAtTheSameMomentSeeEachOther(t *testing.T) {
	c := natstest.New(t, natstest.Config{Nodes: 3})
	inboxes := []*store{clustered(t, c), clustered(t, c), clustered(t, c)}
	var begun sync.WaitGroup
	for _, s := range inboxes {
		begun.Go(func() {
			inboxtest.Eventually(t, func() bool { // the stream may have no leader yet
				_, err := s.Register(context.Background(), inbox.Asker{Account: account, Rate: 1})
				return err == nil
			})
		})
	}
	begun.Wait()
	for range 100 {
		for _, s := range inboxes {
			require.Equal(t, 3, register(t, s, 1).Count)
		}
	}
	for i, s := range inboxes {
		require.NoError(t, s.Unregister(context.Background(), account))
		for _, left := range inboxes[i+1:] {
			require.Equal(t, 2-i, register(t, left, 1).Count)
		}
	}
}

func TestAnAnswerOfAReplicaThatIsBehindIsNotUsed(t *testing.T) {
	s := openWith(t, serve(t).ClientURL())
	record := func(subject string, seq uint64, data string) message {
		return message{subject: subject, seq: seq, data: []byte(data)}
	}
	mine, other := s.subjects.asker(account, "me"), s.subjects.asker(account, "other")
	for _, behind := range [][]message{nil, {record(other, 9, `{"rate":1}`)}, {record(mine, 7, `{"rate":1}`), record(other, 9, `{"rate":1}`)}} {
		_, seen := s.countAskers(behind, mine, 8)
		require.False(t, seen)
	}
	askers, seen := s.countAskers([]message{
		record(mine, 8, `{"rate":4}`), record(other, 7, `{"rate":2}`), record("a", 1, "no JSON"), record("b", 2, `{"rate":-5}`),
	}, mine, 8)
	require.True(t, seen)
	require.Equal(t, inbox.Askers{Count: 4, Rate: 2}, askers, "who cannot be read is counted all the same")
}

func TestAnAccountIsAPartOfASubject(t *testing.T) {
	s := openWith(t, serve(t).ClientURL())
	for _, bad := range []string{"", "*", ">", "a.b", "A", "a b", strings.Repeat("a", 65)} {
		_, err := s.Register(context.Background(), inbox.Asker{Account: bad, Rate: 1})
		require.ErrorIs(t, err, errAccount)
		require.ErrorIs(t, s.Unregister(context.Background(), bad), errAccount)
	}
}

// Without NATS nobody can say that he asks, and one that was cut off is not believed to
// have done so.
func TestNobodyRegistersWithoutAServer(t *testing.T) {
	server := serve(t)
	s := openWith(t, server.ClientURL(), func(o *options) { o.limits.grace = 0 })
	register(t, s, 1)
	server.Shutdown()
	server.WaitForShutdown()
	inboxtest.Eventually(t, func() bool { return !s.link.isUp() })
	_, err := s.Register(context.Background(), inbox.Asker{Account: account, Rate: 1})
	require.Error(t, err)
	require.Error(t, s.Unregister(context.Background(), account))
}

func TestAStreamOfTasksWithoutAskersGetsThem(t *testing.T) {
	url := serve(t).ClientURL()
	s := openWith(t, url, passive)
	trackAll(t, s, someTasks(0, 3)...)
	edit(t, url, "TEST_TASKS", func(c *jetstream.StreamConfig) { c.Subjects = []string{"TEST.task.*"} })
	again := openWith(t, url)
	require.Equal(t, 1, register(t, again, 1).Count)
	require.EqualValues(t, 3, waitingTasks(t, again))
	assert.ElementsMatch(t, []string{"TEST.task.*", "TEST.asker.*.*"}, stream(t, url, "TEST_TASKS").CachedInfo().Config.Subjects)
}

// Somebody has removed the stream, with all that was registered.
func TestAskersRegisterAgainInANewStream(t *testing.T) {
	url := serve(t).ClientURL()
	a, b := openWith(t, url, watchful), openWith(t, url, watchful)
	register(t, a, 1)
	register(t, b, 1)
	require.NoError(t, admin(t, url).DeleteStream(context.Background(), "TEST_TASKS"))
	inboxtest.Eventually(t, func() bool {
		_, err := a.Register(context.Background(), inbox.Asker{Account: account, Rate: 1})
		askers, other := b.Register(context.Background(), inbox.Asker{Account: account, Rate: 1})
		return err == nil && other == nil && askers.Count == 2
	})
}

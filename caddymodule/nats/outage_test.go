package nats

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

func TestWhileTheServerIsAwayCallsFailQuicklyAndThenWorkAgain(t *testing.T) {
	port, dir := freePort(t), t.TempDir()
	first := serve(t, fixed(port, dir))
	s := openWith(t, first.ClientURL(), func(o *options) { o.limits.grace, o.settings.publishTimeout = time.Millisecond, time.Minute })
	ctx := context.Background()
	e := inboxtest.NewEvent("task", inbox.Completed)
	inboxtest.Put(t, s, e)
	first.Shutdown()
	first.WaitForShutdown()
	inboxtest.Eventually(t, func() bool { return !s.link.isUp() })
	lost := inboxtest.NewEvent("task", inbox.Completed)
	began := time.Now()
	_, err := s.Put(ctx, lost)
	require.ErrorIs(t, err, errDisconnected)
	require.NotErrorIs(t, err, inbox.ErrFull)
	_, err = s.Stats(ctx)
	require.ErrorIs(t, err, errDisconnected)
	require.Less(t, time.Since(began), 20*time.Second)
	got := make(chan []*inbox.Lease, 1)
	go func() {
		l, _ := s.home.Lease(ctx, 1)
		got <- l
	}()
	serve(t, fixed(port, dir))
	l := <-got
	require.Len(t, l, 1)
	require.Equal(t, e, l[0].Event)
	inboxtest.Settle(t, s.home, inbox.Deliver, l...)
	_, err = s.Get(ctx, lost.ID)
	require.ErrorIs(t, err, inbox.ErrNotFound, "nothing is kept back to be sent later")
	nothingElse(t, s)
}

// When a server dies another one takes over soon. A caller that is refused
// meanwhile may not try again.
func TestAShortGapIsWaitedFor(t *testing.T) {
	port, dir := freePort(t), t.TempDir()
	first := serve(t, fixed(port, dir))
	s := openWith(t, first.ClientURL(), func(o *options) { o.limits.grace, o.settings.publishTimeout = time.Minute, time.Minute })
	inboxtest.Put(t, s, inboxtest.NewEvent("task", inbox.Completed))
	first.Shutdown()
	first.WaitForShutdown()
	second, stored := inboxtest.NewEvent("task", inbox.Completed), make(chan error)
	go func() {
		_, err := s.Put(context.Background(), second)
		stored <- err
	}()
	inboxtest.Eventually(t, func() bool { return !s.link.isUp() })
	serve(t, fixed(port, dir))
	require.NoError(t, <-stored)
	require.Len(t, inboxtest.Lease(t, s.home, 1), 1)
}

// If the answer to a publish was lost, the event is found, and not taken for a
// repeat.
func TestAnEventWhoseAnswerWasLostIsNoDuplicate(t *testing.T) {
	s := openWith(t, serve(t).ClientURL())
	ctx := context.Background()
	first, e := inboxtest.NewEvent("task", inbox.InProgress), inboxtest.NewEvent("task", inbox.Completed)
	inboxtest.Put(t, s, first)
	m, err := encodeEvent(s.subjects.event(e.ID), e)
	require.NoError(t, err)
	m.Header.Set(headerPrev, "1")
	_, err = s.js.PublishMsg(ctx, m)
	require.NoError(t, err)
	for _, unsure := range []bool{true, false} {
		p := pendingPut{store: s, event: e, message: m, mayBeStored: unsure}
		done, duplicateOf, err := p.try(ctx)
		require.NoError(t, err)
		require.True(t, done)
		require.Equal(t, !unsure, duplicateOf == e.ID)
	}
	r, err := s.Get(ctx, first.ID)
	require.NoError(t, err)
	require.Equal(t, inbox.Superseded, r.State)
	another := *e
	another.Body = append([]byte(" "), e.Body...)
	p := pendingPut{store: s, event: &another, message: m, mayBeStored: true}
	_, duplicateOf, err := p.try(ctx)
	require.NoError(t, err)
	require.Equal(t, e.ID, duplicateOf, "another arrival of the same callback")
}

func TestClosingIsQuickWhileTheServerIsAway(t *testing.T) {
	first := serve(t)
	s := openWith(t, first.ClientURL(), func(o *options) { o.settings.publishTimeout = time.Hour })
	inboxtest.Put(t, s, inboxtest.NewEvent("task", inbox.Completed))
	inboxtest.Lease(t, s.home, 1)
	first.Shutdown()
	first.WaitForShutdown()
	began := time.Now()
	require.NoError(t, s.Close())
	require.Less(t, time.Since(began), time.Minute)
}

func TestWithoutAServerAnInboxIsOpenedOnlyIfTold(t *testing.T) {
	port := freePort(t)
	url := "nats://127.0.0.1:" + strconv.Itoa(port)
	began := time.Now()
	err := refused(t, url)
	require.ErrorContains(t, err, "connecting to "+url)
	require.ErrorContains(t, err, "start_without_server")
	require.Less(t, time.Since(began), 20*time.Second)
	s := openWith(t, url, func(o *options) {
		o.startWithoutServer, o.settings.publishTimeout = true, 200*time.Millisecond
	})
	ctx := context.Background()
	e := inboxtest.NewEvent("task", inbox.Completed)
	_, err = s.Put(ctx, e)
	require.ErrorIs(t, err, errNotReady)
	_, err = s.home.Lease(ctx, 1)
	require.ErrorIs(t, err, errNotReady)
	serve(t, fixed(port, t.TempDir()))
	inboxtest.Eventually(t, func() bool {
		_, err := s.Put(ctx, e)
		return err == nil
	})
	require.Equal(t, e, inboxtest.Lease(t, s.home, 1)[0].Event)
}

func TestWhatCannotBeCheckedLaterSaysWhy(t *testing.T) {
	port := freePort(t)
	s := openWith(t, "nats://127.0.0.1:"+strconv.Itoa(port), func(o *options) {
		o.startWithoutServer, o.settings.replicas = true, 3
	})
	serve(t, fixed(port, t.TempDir()))
	inboxtest.Eventually(t, func() bool {
		_, err := s.Put(context.Background(), inboxtest.NewEvent("task", inbox.Completed))
		return err != nil && !errors.Is(err, errNotReady) && !errors.Is(err, errUnanswering)
	})
	_, err := s.Put(context.Background(), inboxtest.NewEvent("task", inbox.Completed))
	require.ErrorContains(t, err, "making stream TEST with 3 replicas")
}

package mock

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/fotorapi"
)

func TestTaskIsInProgressUntilItsTime(t *testing.T) {
	s, _, target := play(t, Config{Delay: time.Hour})
	id := s.Submit("videoEnhancer")
	got, err := client(t, target).Task(t.Context(), id)
	require.NoError(t, err)
	require.Contains(t, string(got.Data), `"status":0`)
	truth, _ := s.Outcome(id)
	require.Equal(t, InProgress, truth.Status)
	require.Equal(t, Completed, truth.Final.Status)
	require.Greater(t, time.Until(truth.At), 29*time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Drain(ctx), context.Canceled)
}

func TestRequestsThatAreRefused(t *testing.T) {
	var entries []Entry
	s, _, target := play(t, Config{Key: testKey, Log: func(e Entry) { entries = append(entries, e) }, RetryAfter: 1500 * time.Millisecond, TooOften: 1})
	for _, c := range []struct {
		product, key string
		status       int
		answer       string
	}{
		{"avatar", "other", 401, `{"code":"401","msg":"wrong key","data":null}`},
		{"avatar", "", 401, `{"code":"401","msg":"no key","data":null}`},
		{"a%2Fb", testKey, 404, `{"code":"404","msg":"no such product","data":null}`},
		{"avatar/x", testKey, 404, `{"code":"404","msg":"no such path","data":null}`},
	} {
		status, answer := submit(t, target, c.product, c.key)
		require.Equal(t, c.status, status)
		require.JSONEq(t, c.answer, answer)
	}
	_, err := client(t, target).Task(t.Context(), "x")
	require.Equal(t, fotorapi.TooOften, fotorapi.KindOf(err))
	require.Equal(t, 2*time.Second, fotorapi.RetryAfterOf(err))
	s.SetKey("changed")
	_, err = client(t, target).Task(t.Context(), "x")
	require.Equal(t, fotorapi.Unauthorized, fotorapi.KindOf(err))
	require.Empty(t, s.Outcomes())
	require.Len(t, entries, 6)
	for _, e := range entries {
		require.Equal(t, Refused, e.Kind)
		require.NotEmpty(t, e.Error)
		require.WithinDuration(t, time.Now(), e.At, time.Minute)
	}
	require.Equal(t, map[int]int64{401: 1, 429: 1}, s.Counts().Questions)
}

func TestLimitOfQuestions(t *testing.T) {
	s, _, target := play(t, Config{Limit: 2})
	c, kinds := client(t, target), make(map[fotorapi.Kind]int)
	for range 3 {
		_, err := c.Task(t.Context(), "x")
		kinds[fotorapi.KindOf(err)]++
	}
	require.GreaterOrEqual(t, kinds[fotorapi.NotKnown], 2)
	require.Equal(t, 3, s.Most(time.Hour))
	require.Equal(t, 1, s.Most(0))
}

func TestMostQuestionsInAWindow(t *testing.T) {
	var s Server
	start := time.Now()
	for _, ms := range []int{0, 400, 900, 1000, 1001, 5000, 5001} {
		s.question(start.Add(time.Duration(ms) * time.Millisecond))
	}
	require.Equal(t, 4, s.Most(time.Second))
	require.Equal(t, 7, s.Most(time.Hour))
	require.Equal(t, 2, s.Most(time.Millisecond))
	for range 3 * maxAsked {
		s.question(start)
	}
	require.LessOrEqual(t, len(s.asked), 2*maxAsked)
}

func TestFaults(t *testing.T) {
	s, _, target := play(t, Config{})
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { assert.Fail(t, "followed") }))
	defer elsewhere.Close()
	id := s.Submit("avatar")
	for _, c := range []struct {
		fault Fault
		want  fotorapi.Kind
		text  string
	}{
		{Fault{Kind: Down}, fotorapi.Unavailable, "no answer"},
		{Fault{Kind: Status}, fotorapi.Unavailable, "HTTP 500 (Internal Server Error)"},
		{Fault{Kind: Status, Status: 503}, fotorapi.Unavailable, "HTTP 503"},
		{Fault{Kind: CutOff}, fotorapi.Unavailable, "broke off"},
		{Fault{Kind: NotJSON}, fotorapi.Unusable, "not JSON"},
		{Fault{Kind: Huge}, fotorapi.Unusable, "longer than"},
		{Fault{Kind: Redirect, Target: elsewhere.URL}, fotorapi.Unavailable, "redirect"},
		{Fault{Kind: Compress}, fotorapi.Unusable, "encoding"},
		{Fault{Kind: WrongTask}, fotorapi.OtherTask, "00000000"},
		{Fault{Kind: NoTask}, fotorapi.NotKnown, `"999"`},
	} {
		s.SetFault(c.fault)
		_, err := client(t, target).Task(t.Context(), id)
		require.Equal(t, c.want, fotorapi.KindOf(err), c.fault.Kind)
		require.ErrorContains(t, err, c.text)
		status, _ := submit(t, target, "avatar", "any")
		require.Equal(t, 200, status, "submissions have no fault")
	}
	s.SetFault(Fault{Kind: Status, Status: 502, Submissions: true})
	status, _ := submit(t, target, "avatar", "any")
	require.Equal(t, 502, status)

	s.SetFault(Fault{Delay: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := client(t, target).Task(ctx, id)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	s.SetFault(Fault{Kind: NoTask, Share: 0.5})
	c, kinds := client(t, target), make(map[fotorapi.Kind]int)
	for range 60 {
		_, err := c.Task(t.Context(), id)
		kinds[fotorapi.KindOf(err)]++
	}
	require.Len(t, kinds, 2)
	s.SetFault(Fault{})
	_, err = client(t, target).Task(t.Context(), id)
	require.NoError(t, err)
}

func TestOldTasksAreForgottenAndTooManyCallbacksRefused(t *testing.T) {
	s, g, target := play(t, Config{MaxTasks: 3, Delay: -1, NoProgress: true})
	first := s.Submit("avatar")
	for range 5 {
		drain(t, s)
		require.NotEmpty(t, s.Submit("avatar"))
	}
	drain(t, s)
	require.Len(t, s.Outcomes(), 3)
	_, known := s.Outcome(first)
	require.False(t, known)
	require.Len(t, g.bodies, 6)

	slow, _, _ := play(t, Config{MaxTasks: 3, Delay: time.Hour, NoProgress: true})
	for range 3 {
		require.NotEmpty(t, slow.Submit("avatar"))
	}
	require.Empty(t, slow.Submit("avatar"))
	served := httptest.NewServer(slow)
	defer served.Close()
	status, _ := submit(t, served.URL, "avatar", "any")
	require.Equal(t, 503, status)
	_ = target
}

// TestRateIsKeptInAStorm has many ask at once, of a server that refuses some: since the
// beginning, it has never got more questions than the rate allows.
func TestRateIsKeptInAStorm(t *testing.T) {
	const full = 40.0
	s, _, target := play(t, Config{TooOften: 0.1, Seed: 3})
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	c, err := fotorapi.New(fotorapi.Config{URL: target, Key: testKey, Transport: transport, Budget: fotorapi.NewAdaptive(full)})
	require.NoError(t, err)
	id := s.Submit("avatar")
	var callers sync.WaitGroup
	begun := time.Now()
	for range 30 {
		callers.Go(func() {
			_, err := c.Task(t.Context(), id)
			assert.Contains(t, []fotorapi.Kind{fotorapi.Other, fotorapi.TooOften}, fotorapi.KindOf(err))
		})
	}
	callers.Wait()
	most, took := s.Most(time.Hour), time.Since(begun)
	require.Equal(t, 30, most)
	require.LessOrEqual(t, float64(most), 1+full*took.Seconds())
	require.Positive(t, s.Counts().Questions[429])
	require.Less(t, c.Rate(), full)
}

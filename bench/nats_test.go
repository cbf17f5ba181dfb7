package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNATSIsOnlyMeasuredIfAskedFor(t *testing.T) {
	for _, c := range contenders {
		require.False(t, c.nats || c.slow, c.key)
	}
	opts, err := parseOptions([]string{"-inbox", "nats"})
	require.NoError(t, err)
	require.Equal(t, "c,n,n1,n2,nd,nd3,ndd", contenderKeys(opts.only))

	all := make(map[string][]sample)
	for _, c := range opts.only {
		all[c.key] = []sample{{accepted: 1, delivered: 1, faults: make(faults)}}
	}
	var judged []string
	for _, target := range targets {
		if target.measured(all) {
			judged = append(judged, target.what+" "+target.bound())
		}
	}
	require.Equal(t, []string{"(n) ÷ (c), requests/s ≥ 0.40", "(n2) ÷ (n1), events delivered/s ≥ 1.80"}, judged)
}

func TestSlowContendersAreComparedByWhatTheyDeliver(t *testing.T) {
	rounds := func(delivered float64) []sample {
		return []sample{{accepted: 7000 / delivered, delivered: delivered, delivers: true, faults: make(faults)}}
	}
	twice := targets[len(targets)-1]
	require.Equal(t, []string{"n2", "n1"}, twice.needs)
	require.Equal(t, "yes", twice.verdict(map[string][]sample{"n1": rounds(300), "n2": rounds(540)}))
	require.Equal(t, "**no**", twice.verdict(map[string][]sample{"n1": rounds(300), "n2": rounds(539)}))
}

func TestCaddyfileOnNATSNamesEveryServer(t *testing.T) {
	c, ok := contenderByKey(natsContenders, "n2")
	require.True(t, ok)
	text := c.caddyfile("127.0.0.1:1", "127.0.0.1:2", "/storage", "WARN",
		places{upstream: "127.0.0.1:3", nats: []string{"nats://127.0.0.1:4", "nats://127.0.0.1:5"}})
	require.Contains(t, text, "inbox nats nats://127.0.0.1:4 nats://127.0.0.1:5 {")
	require.Contains(t, text, "replicas 3")
	require.Contains(t, text, "forward http://127.0.0.1:3/slow")
}

// Twice the Caddys need twice the backlog, or they would run out of events.
func TestBacklogOutlastsTheMeasurement(t *testing.T) {
	const perSecond = 32 * int64(time.Second/slowAnswer)
	for _, servers := range []int{1, 2} {
		for _, d := range []time.Duration{100 * time.Millisecond, 10 * time.Second} {
			require.Greater(t, backlogFor(servers, d), int64(servers)*perSecond*int64(d+time.Second)/int64(time.Second))
		}
	}
}

// A slow upstream takes its time, and distinguishes repeats from new events.
func TestSlowUpstreamCountsEventsAndRepeats(t *testing.T) {
	server := httptest.NewServer(upstreamHandler())
	defer server.Close()
	up := &upstream{address: strings.TrimPrefix(server.URL, "http://")}
	began := time.Now()
	for _, id := range []string{"a", "b", "a"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+slowPath, strings.NewReader("{}"))
		require.NoError(t, err)
		r.Header.Set("Webhook-Id", id)
		response, err := server.Client().Do(r)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusOK, response.StatusCode)
	}
	require.GreaterOrEqual(t, time.Since(began), 3*slowAnswer)
	for what, count := range map[int64]func(context.Context) (int64, error){2: up.taken, 1: up.repeated} {
		n, err := count(t.Context())
		require.NoError(t, err)
		require.Equal(t, what, n)
	}
}

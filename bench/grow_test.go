package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
)

// Callbacks of every size are valid, of that size, and each of another task.
func TestCallbacksOfAnySize(t *testing.T) {
	for _, size := range []int{leastBody, 300, 500, 501, 1000, len(sampleCallback), 10_000, 100_000} {
		m := modelOf(size)
		tasks := make(map[string]bool)
		for n := range uint64(100) {
			body := m.append([]byte("x"), n)[1:]
			require.Len(t, body, size)
			parsed, err := callback.Parse(body, nil)
			require.NoError(t, err, "%d: %.400s", size, body)
			tasks[parsed.Event(callback.Arrival{At: time.Now()}).TaskID] = true
		}
		require.Len(t, tasks, 100, size)
	}
	require.Same(t, usual, modelOf(len(sampleCallback)))
}

func TestOptionsOfGrowth(t *testing.T) {
	opts, err := parseOptions([]string{"-grow"})
	require.NoError(t, err)
	values := make(map[string][]int)
	for _, table := range opts.grow {
		for _, r := range table.rows {
			values[table.flag] = append(values[table.flag], r.value)
		}
	}
	require.Equal(t, map[string][]int{
		"stored": {0, 1_000_000, 5_000_000, 20_000_000}, "connections": {1, 8, 64, 512}, "bodies": {300, 1123, 10_000, 100_000},
	}, values)

	opts, err = parseOptions([]string{"-grow", "-stored", "", "-bodies", "", "-connections", "3, 4"})
	require.NoError(t, err)
	require.Len(t, opts.grow, 1)
	require.Equal(t, tableRow{value: 4, shape: shape{4, len(sampleCallback)}}, opts.grow[0].rows[1])

	for _, tc := range []struct{ args, complaint string }{
		{"-grow -stored=1k", `-stored has "1k": expected numbers with commas between them, such as 0,1000000`},
		{"-grow -stored=1,,2", `-stored has "": expected numbers`},
		{"-grow -stored=0,-1", "-stored has -1: expected 0 to 50000000"},
		{"-grow -stored=2,1", "-stored has 1 after 2: expected ascending numbers"},
		{"-grow -bodies=10", "-bodies has 10: expected 256 to 1000000"},
		{"-grow -connections=0", "-connections has 0: expected 1 to 2048"},
		{"-grow -stored= -bodies= -connections=", "-grow has nothing to measure"},
		{"-grow -only=c", "expected neither -only, -inbox nor -profile beside it"},
		{"-bodies=300", "-bodies needs -grow"},
	} {
		_, err := parseOptions(strings.Fields(tc.args))
		require.ErrorContains(t, err, tc.complaint)
	}
}

// What is stored before is kept; without, each round begins afresh.
func TestGrowingContendersKeepWhatIsStored(t *testing.T) {
	for stored, kept := range map[int]bool{0: false, 1000: true} {
		for _, c := range growing(stored) {
			require.Equal(t, kept && c.stores, c.backlog, c.key)
			text := c.caddyfile("127.0.0.1:1", "127.0.0.1:2", "/storage", "WARN", places{upstream: "127.0.0.1:3", inbox: "/inbox"})
			require.Equal(t, c.stores, strings.Contains(text, "max_size 1TiB"), c.key)
			require.Equal(t, c.key == "c", strings.Contains(text, heldPath), c.key)
		}
	}
	c, _ := contenderByKey(contenders, "c")
	require.False(t, c.backlog, "the others stay as they are")
}

func TestGrowthIsReportedBesideThePeers(t *testing.T) {
	opts, err := parseOptions([]string{"-grow", "-connections", "", "-bodies", "", "-stored", "0,5"})
	require.NoError(t, err)
	one := func(rate float64) []sample { return []sample{{accepted: rate, faults: make(faults)}} }
	rows := opts.grow[0].rows
	rows[0].samples = map[string][]sample{
		"a": one(1000), "b": one(250), "c": one(500),
		"d": {{delivered: 300, delivers: true, faults: faults{"a | b": 1}}},
	}
	rows[1].samples = map[string][]sample{"a": one(1000), "b": one(0), "c": one(400), "d": one(0)}
	var text strings.Builder
	require.NoError(t, reportGrowth(&text, machine{}, opts))
	require.Contains(t, text.String(), "\nAccept, by stored events:\n\n| stored events | `respond`/s | `reverse_proxy`/s | accepted/s | of `respond` |")
	require.Contains(t, text.String(), "\n| 0 | 1000 | 250 | 500 | 0.50 | 2.00 | 1.00 | 0.00 ms |")
	require.Contains(t, text.String(), "\n| 5 | 1000 | 0 | 400 | 0.40 | – | 0.80 | 0.00 ms |")
	require.Contains(t, text.String(), "\n| 0 | 1000 | 250 | 300 | 0.30 | 1.20 | 1.00 |")
	require.Equal(t, 1, strings.Count(text.String(), "| **1 × a / b** |\n"), "a fault of (d) is none of (c)")
	columns := 0
	for line := range strings.Lines(text.String()) {
		if strings.HasPrefix(line, "| stored") {
			columns = strings.Count(line, "|")
		} else if strings.HasPrefix(line, "|") {
			require.Equal(t, columns, strings.Count(line, "|"), line)
		}
	}
}

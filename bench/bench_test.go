package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCallbacksHaveOneLengthAndTheirOwnIDs(t *testing.T) {
	const taskID = len(`{"taskId":"`)
	seen := make(map[string]uint64)
	for series := range uint64(4) {
		for n := range uint64(1000) {
			number := series<<32 + n
			body := appendCallback([]byte("x"), number)[1:]
			require.Len(t, body, len(sampleCallback))
			id := string(body[taskID : taskID+32])
			other, known := seen[id]
			require.False(t, known, "callbacks %d and %d have one task id", number, other)
			seen[id] = number
		}
	}
}

func TestIdentifiersAreReplacedWhereverTheyStand(t *testing.T) {
	body := string(appendCallback(nil, 7))
	for _, s := range usual.slots {
		original := string(sampleCallback[s.at : s.at+32])
		require.NotContains(t, body, original)
		replaced := body[s.at : s.at+32]
		require.Equal(t, strings.Count(string(sampleCallback), original), strings.Count(body, replaced))
	}
	require.Len(t, usual.slots, maxSlots, "the task, its business id in five places, and four images in two each")
}

func TestMedian(t *testing.T) {
	rates := func(values ...float64) []sample {
		samples := make([]sample, len(values))
		for i, v := range values {
			samples[i].accepted = v
		}
		return samples
	}
	accepted := func(s sample) float64 { return s.accepted }
	require.InDelta(t, 5, median(rates(5), accepted), 0)
	require.InDelta(t, 3, median(rates(9, 1, 3), accepted), 0)
	require.InDelta(t, 4, median(rates(9, 1, 5, 3), accepted), 0)
}

func TestQuantile(t *testing.T) {
	values := make([]time.Duration, 100)
	for i := range values {
		values[i] = time.Duration(i)
	}
	require.Equal(t, time.Duration(50), quantile(values, 0.50))
	require.Equal(t, time.Duration(99), quantile(values, 0.99))
	require.Equal(t, time.Duration(99), quantile(values, 1))
	require.Zero(t, quantile(nil, 0.5))
}

func TestFaultsAreBoundedAndListedByFrequency(t *testing.T) {
	f := make(faults)
	for i := range 100 {
		f.add(fmt.Sprintf("fault %d", i), 1)
	}
	f.add("fault 1", 2)
	require.LessOrEqual(t, len(f), maxFaults+1)
	require.Equal(t, 102, f.total())
	require.True(t, strings.HasPrefix(f.String(), "92 × other; 3 × fault 1; 1 × fault 0"), f.String())
	require.Equal(t, "refused", fault(fmt.Errorf("post 127.0.0.1:4711: %w", errors.New("refused"))))
}

func TestParseProc(t *testing.T) {
	cpu, err := parseCPUTime("4711 (a ) b) S 1 4711 4711 0 -1 4194560 1200 0 3 0 250 75 0 0 20 0 9 0 100 0 0\n")
	require.NoError(t, err)
	require.Equal(t, 3250*time.Millisecond, cpu)
	_, err = parseCPUTime("4711 (caddy) S 1")
	require.ErrorContains(t, err, "unexpected process status")

	rss, err := parsePeakRSS("Name:\tcaddy\nVmHWM:\t   58320 kB\nVmRSS:\t   50000 kB\n")
	require.NoError(t, err)
	require.Equal(t, int64(58320<<10), rss)
	_, err = parsePeakRSS("Name:\tcaddy\n")
	require.ErrorContains(t, err, `"VmHWM:"`)
}

func TestFileSystemTypeIsThatOfTheNearestMount(t *testing.T) {
	const mountinfo = `21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 21 0:25 / /tmp rw - tmpfs none rw
31 21 0:26 / /tmpfoo rw - btrfs /dev/vdb rw
32 30 0:27 / /tmp rw - xfs /dev/vdc rw
`
	for path, kind := range map[string]string{
		"/": "ext4", "/var/lib": "ext4", "/tmp": "xfs", "/tmp/x": "xfs", "/tmpfoo/x": "btrfs", "/tmpf": "ext4",
	} {
		require.Equal(t, kind, fileSystemType(mountinfo, path), path)
	}
	require.Equal(t, "unknown file system", fileSystemType("", "/"))
}

func TestParseDeliveries(t *testing.T) {
	const text = `# TYPE caddy_fotor_webhook_destination_events gauge
caddy_fotor_webhook_destination_events{destination="a",handler="default",state="dead"} 0
caddy_fotor_webhook_destination_events{destination="a",handler="default",state="pending"} 1.000123e+06
caddy_fotor_webhook_destination_events{destination="b",handler="default",state="pending"} 7
`
	count, err := parseDeliveries(text, "a", "pending")
	require.NoError(t, err)
	require.Equal(t, int64(1_000_123), count)
	count, err = parseDeliveries(text, "", "pending")
	require.NoError(t, err)
	require.Equal(t, int64(1_000_130), count)
	_, err = parseDeliveries(text, "a", "delivered")
	require.ErrorContains(t, err, `state="delivered"`)
	_, err = parseDeliveries(text, "c", "pending")
	require.ErrorContains(t, err, `destination="c"`)
	_, err = parseDeliveries(`caddy_fotor_webhook_destination_events{state="pending"} many`, "", "pending")
	require.ErrorContains(t, err, "many")
}

func TestTargetsAreJudgedByMediansAndNeverWithFaults(t *testing.T) {
	rounds := func(rates ...float64) (samples []sample) {
		for _, rate := range rates {
			samples = append(samples, sample{accepted: rate, faults: make(faults)})
		}
		return samples
	}
	ratio := targets[0]
	all := map[string][]sample{"a": rounds(100, 200, 300)}
	require.False(t, ratio.measured(all))
	all["c"] = rounds(40, 104, 180)
	require.True(t, ratio.measured(all))

	value, least, most := ratio.values(all)
	require.InDelta(t, 0.52, value, 1e-9)
	require.InDelta(t, 0.4, least, 1e-9)
	require.InDelta(t, 0.6, most, 1e-9)
	require.Equal(t, "yes", ratio.verdict(all))

	all["c"][1].accepted = 103
	require.Equal(t, "**no**", ratio.verdict(all))

	all["a"][0].faults.add("status 503", 1)
	require.Equal(t, "**not valid: (a) had faults**", ratio.verdict(all))

	atMost := target{needs: []string{"c"}, value: func(map[string]sample) float64 { return 2 }, limit: 2, atMost: true, unit: " s"}
	require.Equal(t, "yes", atMost.verdict(map[string][]sample{"c": rounds(1)}))
	require.Equal(t, "≤ 2.00 s", atMost.bound())
	atMost.limit = 1.9
	require.Equal(t, "**no**", atMost.verdict(map[string][]sample{"c": rounds(1)}))
}

func TestCheckFindsWhatWasLostOrRepeated(t *testing.T) {
	accepts, delivers := &contender{stores: true}, &contender{stores: true, delivers: true}
	before := tally{pending: 10, delivered: 20, taken: 30}
	for name, tc := range map[string]struct {
		c     *contender
		after tally
		found string
	}{
		"all kept":               {accepts, tally{pending: 15}, ""},
		"kept without an answer": {accepts, tally{pending: 16}, ""},
		"one lost":               {accepts, tally{pending: 14}, "1 × answered 200 but not in the inbox"},
		"all delivered":          {delivers, tally{delivered: 25, taken: 35}, ""},
		"one not delivered":      {delivers, tally{delivered: 24, taken: 34}, "1 × answered 200 but not in the inbox"},
		"two delivered twice":    {delivers, tally{delivered: 25, taken: 37}, "2 × delivered more than once"},
		"delivered three times":  {&contender{stores: true, delivers: true, destinations: 3}, tally{delivered: 35, taken: 45}, ""},
		"not to all three":       {&contender{stores: true, delivers: true, destinations: 3}, tally{delivered: 34, taken: 44}, "1 × answered 200 but not in the inbox"},
		"nothing to keep":        {&contender{}, tally{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			found := make(faults)
			tc.after.check(before, tc.c, 5, found)
			require.Equal(t, tc.found, found.String())
		})
	}
}

func TestReportIsATableWithEveryContender(t *testing.T) {
	opts, err := parseOptions([]string{"-only", "a, c1m", "-rounds", "1", "-pending", "7"})
	require.NoError(t, err)
	all := map[string][]sample{
		"a":   {{accepted: 1000, p99: 1500 * time.Microsecond, rss: 50 << 20, faults: make(faults)}},
		"c1m": {{accepted: 500, rss: 250 << 20, ready: time.Second, faults: faults{"a | b\nc": 2}}},
	}
	var text strings.Builder
	require.NoError(t, report(&text, machine{}, opts, all))
	require.Contains(t, text.String(), "| a | bare Caddy, `respond 200` | 1000 | – | 0.00 ms | 1.50 ms | 0.0 µs | 0.0 µs | 50 MiB | 0.00 ms | none |\n")
	require.Contains(t, text.String(), "with a backlog of 7 | 500 |")
	require.Contains(t, text.String(), "| **2 × a / b c** |\n")
	require.Contains(t, text.String(), "| (c1m) − (a), peak RSS | ≤ 150.00 MiB | 200.00 MiB | 200.00 MiB to 200.00 MiB | **not valid: (c1m) had faults** |\n")
	require.NotContains(t, text.String(), "(c) ÷ (a)")
	columns := -1
	for line := range strings.Lines(text.String()) {
		if !strings.HasPrefix(line, "|") {
			columns = -1
			continue
		}
		if columns < 0 {
			columns = strings.Count(line, "|")
		}
		require.Equal(t, columns, strings.Count(line, "|"), line)
	}
}

func TestOptions(t *testing.T) {
	opts, err := parseOptions(nil)
	require.NoError(t, err)
	require.Equal(t, 10*time.Second, opts.time)
	require.Equal(t, 3, opts.rounds)
	require.Len(t, opts.only, len(contenders))

	for _, tc := range []struct{ args, complaint string }{
		{"-only z", "expected some of a,b,c,d,d3,dd,do,cask,cdash,ddash,dr,c1m"},
		{"-inbox nats -only a", "expected some of c,n,n1,n2"},
		{"-inbox redis", `-inbox is "redis": expected sqlite or nats`},
		{"-time 1h", "-time is 1h0m0s: expected 100ms to 5m0s"},
		{"-rounds 0", "-rounds is 0: expected 1 to 99"},
		{"-pending 0", "-pending is 0"},
		{"more", `unexpected argument "more"`},
	} {
		_, err := parseOptions(strings.Fields(tc.args))
		require.ErrorContains(t, err, tc.complaint)
	}
}

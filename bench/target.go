package main

import (
	"fmt"
	"time"
)

// target is a figure that the gateway has to reach, on two cores.
type target struct {
	what   string
	needs  []string // keys of contenders
	value  func(by map[string]sample) float64
	limit  float64
	atMost bool // limit is the largest allowed value, not the smallest
	unit   string
}

var targets = []target{
	{
		what: "(c) ÷ (a), requests/s", needs: []string{"c", "a"}, limit: 0.52,
		value: func(by map[string]sample) float64 { return by["c"].rate() / by["a"].rate() },
	},
	{
		what: "(c) ÷ (b), requests/s", needs: []string{"c", "b"}, limit: 2.2,
		value: func(by map[string]sample) float64 { return by["c"].rate() / by["b"].rate() },
	},
	{
		what: "(c) ÷ (b), p99", needs: []string{"c", "b"}, limit: 2, atMost: true,
		value: func(by map[string]sample) float64 { return float64(by["c"].p99) / float64(by["b"].p99) },
	},
	{
		what: "(d) ÷ (b), events delivered/s", needs: []string{"d", "b"}, limit: 1.1,
		value: func(by map[string]sample) float64 { return by["d"].rate() / by["b"].rate() },
	},
	{
		what: "(c1m) ÷ (c), requests/s", needs: []string{"c1m", "c"}, limit: 0.95,
		value: func(by map[string]sample) float64 { return by["c1m"].rate() / by["c"].rate() },
	},
	{
		what: "(c1m) − (a), peak RSS", needs: []string{"c1m", "a"}, limit: 150, atMost: true, unit: " MiB",
		value: func(by map[string]sample) float64 { return float64(by["c1m"].rss-by["a"].rss) / (1 << 20) },
	},
	{
		what: "(d3) ÷ (d), deliveries/s", needs: []string{"d3", "d"}, limit: 2.2,
		value: func(by map[string]sample) float64 { return by["d3"].rate() / by["d"].rate() },
	},
	{
		what: "(dd) ÷ (d), deliveries/s", needs: []string{"dd", "d"}, limit: 0.95,
		value: func(by map[string]sample) float64 { return by["dd"].rate() / by["d"].rate() },
	},
	{
		what: "(do) ÷ (d), accepted/s", needs: []string{"do", "d"}, limit: 0.97,
		value: func(by map[string]sample) float64 { return by["do"].accepted / by["d"].accepted },
	},
	{
		what: "(cask) ÷ (c), requests/s", needs: []string{"cask", "c"}, limit: 0.97,
		value: func(by map[string]sample) float64 { return by["cask"].rate() / by["c"].rate() },
	},
	{
		what: "(cdash) ÷ (c), requests/s", needs: []string{"cdash", "c"}, limit: 0.97,
		value: func(by map[string]sample) float64 { return by["cdash"].rate() / by["c"].rate() },
	},
	{
		what: "(cdash) ÷ (c), server CPU/request", needs: []string{"cdash", "c"}, limit: 1.03, atMost: true,
		value: func(by map[string]sample) float64 { return float64(by["cdash"].server) / float64(by["c"].server) },
	},
	{
		what: "(ddash) ÷ (d), deliveries/s", needs: []string{"ddash", "d"}, limit: 0.97,
		value: func(by map[string]sample) float64 { return by["ddash"].rate() / by["d"].rate() },
	},
	{
		what: "(c1m), slowest list or count", needs: []string{"c1m"}, limit: 50, atMost: true, unit: " ms",
		value: func(by map[string]sample) float64 { return float64(by["c1m"].slowest) / float64(time.Millisecond) },
	},
	{
		what: "(c1m), ready after a restart", needs: []string{"c1m"}, limit: 2, atMost: true, unit: " s",
		value: func(by map[string]sample) float64 { return float64(by["c1m"].ready) / float64(time.Second) },
	},
	{
		what: "(n) ÷ (c), requests/s", needs: []string{"n", "c"}, limit: 0.4,
		value: func(by map[string]sample) float64 { return by["n"].rate() / by["c"].rate() },
	},
	{
		what: "(n2) ÷ (n1), events delivered/s", needs: []string{"n2", "n1"}, limit: 1.8,
		value: func(by map[string]sample) float64 { return by["n2"].rate() / by["n1"].rate() },
	},
}

// measured reports whether all contenders that it compares were run.
func (t target) measured(all map[string][]sample) bool {
	for _, key := range t.needs {
		if len(all[key]) == 0 {
			return false
		}
	}
	return true
}

// values returns the value of the medians, and the least and the greatest of the rounds.
func (t target) values(all map[string][]sample) (value, least, most float64) {
	by := make(map[string]sample)
	rounds := len(all[t.needs[0]])
	for _, key := range t.needs {
		by[key] = medians(all[key])
		rounds = min(rounds, len(all[key]))
	}
	value = t.value(by)
	for round := range rounds {
		for _, key := range t.needs {
			by[key] = all[key][round]
		}
		v := t.value(by)
		if round == 0 {
			least, most = v, v
		}
		least, most = min(least, v), max(most, v)
	}
	return value, least, most
}

// verdict returns whether the target is reached. With faults, figures are not valid.
func (t target) verdict(all map[string][]sample) string {
	for _, key := range t.needs {
		if len(medians(all[key]).faults) > 0 {
			return "**not valid: (" + key + ") had faults**"
		}
	}
	value, _, _ := t.values(all)
	if (t.atMost && value <= t.limit) || (!t.atMost && value >= t.limit) {
		return "yes"
	}
	return "**no**"
}

func (t target) bound() string {
	if t.atMost {
		return "≤ " + t.format(t.limit)
	}
	return "≥ " + t.format(t.limit)
}

func (t target) format(value float64) string {
	return fmt.Sprintf("%.2f", value) + t.unit
}

package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// column is a column of a table of -grow.
type column struct {
	name string

	// text is its cell, from the medians of the contenders in this row and the first one.
	text func(by, first map[string]sample) string
}

// ratio writes how many times the rate of one contender is that of another.
func ratio(of, to sample) string {
	if to.rate() == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", of.rate()/to.rate())
}

func rateOf(key string) column {
	names := map[string]string{"a": "`respond`/s", "b": "`reverse_proxy`/s", "c": "accepted/s", "d": "delivered/s"}
	return column{names[key], func(by, _ map[string]sample) string { return fmt.Sprintf("%.0f", by[key].rate()) }}
}

// columnsOf are those of what the gateway does in one way, with its peers beside it.
func columnsOf(key string) []column {
	figure := func(name string, text func(sample) string) column {
		return column{name, func(by, _ map[string]sample) string { return text(by[key]) }}
	}
	return []column{
		rateOf("a"), rateOf("b"), rateOf(key),
		{"of `respond`", func(by, _ map[string]sample) string { return ratio(by[key], by["a"]) }},
		{"of `reverse_proxy`", func(by, _ map[string]sample) string { return ratio(by[key], by["b"]) }},
		{"of the first row", func(by, first map[string]sample) string { return ratio(by[key], first[key]) }},
		figure("p50", func(s sample) string { return milliseconds(s.p50) }),
		figure("p99", func(s sample) string { return milliseconds(s.p99) }),
		figure("server CPU/request", func(s sample) string { return microseconds(s.server) }),
		figure("peak RSS", func(s sample) string { return mebibytes(s.rss) }),
		figure("ready", func(s sample) string { return milliseconds(s.ready) }),
		figure("slowest list", func(s sample) string {
			if s.slowest == 0 {
				return "–"
			}
			return milliseconds(s.slowest)
		}),
	}
}

// reportGrowth prints the tables of -grow.
func reportGrowth(w io.Writer, m machine, opts *options) error {
	var text strings.Builder
	fmt.Fprintln(&text, m)
	fmt.Fprintf(&text, "If not said otherwise: nothing stored at first, %d connections, callbacks of %d bytes; %d rounds of %s, medians.\n",
		usualShape.Connections, usualShape.Body, opts.rounds, opts.time)
	for i := range opts.grow {
		t := &opts.grow[i]
		for _, way := range []struct{ key, name string }{{"c", "Accept"}, {"d", "Accept and deliver"}} {
			fmt.Fprintf(&text, "\n%s, by %s:\n\n", way.name, t.name)
			t.write(&text, way.key)
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func (t *table) write(w io.Writer, key string) {
	columns := columnsOf(key)
	var names, lines strings.Builder
	for _, c := range columns {
		names.WriteString(c.name + " | ")
		lines.WriteString("---: | ")
	}
	row(w, t.name, names.String()+"faults")
	row(w, "---:", lines.String()+"---")
	var first map[string]sample
	for _, r := range t.rows {
		by := make(map[string]sample)
		found := make(faults)
		for contender, samples := range r.samples {
			by[contender] = medians(samples)
			if contender != "c" && contender != "d" || contender == key {
				found.merge(by[contender].faults)
			}
		}
		if first == nil {
			first = by
		}
		var cells strings.Builder
		for _, c := range columns {
			cells.WriteString(c.text(by, first) + " | ")
		}
		row(w, strconv.Itoa(r.value), cells.String()+found.cell())
	}
}

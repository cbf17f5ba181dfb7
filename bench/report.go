package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// report prints the tables.
func report(w io.Writer, m machine, opts *options, all map[string][]sample) error {
	var text strings.Builder
	fmt.Fprintln(&text, m)
	fmt.Fprintf(&text, "%d connections, %d rounds of %s, medians.\n\n", connections, opts.rounds, opts.time)
	writeFigures(&text, opts, all)
	fmt.Fprintln(&text)
	writeTargets(&text, all)
	_, err := io.WriteString(w, text.String())
	return err
}

func writeFigures(w io.Writer, opts *options, all map[string][]sample) {
	row(w, "", "contender", "accepted/s", "delivered/s", "p50", "p99",
		"server CPU/request", "generator CPU/request", "peak RSS", "ready", "faults")
	row(w, "---", "---", "---:", "---:", "---:", "---:", "---:", "---:", "---:", "---:", "---")
	for _, c := range opts.only {
		s := medians(all[c.key])
		name := c.name
		if c.backlog {
			name += fmt.Sprintf(" of %d", opts.pending)
		}
		delivered := "–"
		if s.delivers {
			delivered = fmt.Sprintf("%.0f", s.delivered)
		}
		row(w, c.key, name, fmt.Sprintf("%.0f", s.accepted), delivered, milliseconds(s.p50), milliseconds(s.p99),
			microseconds(s.server), microseconds(s.generator), mebibytes(s.rss), milliseconds(s.ready), s.faults.cell())
	}
}

func writeTargets(w io.Writer, all map[string][]sample) {
	row(w, "target", "at", "measured", "rounds", "reached")
	row(w, "---", "---:", "---:", "---:", "---")
	for _, t := range targets {
		if !t.measured(all) {
			continue
		}
		value, least, most := t.values(all)
		row(w, t.what, t.bound(), t.format(value), t.format(least)+" to "+t.format(most), t.verdict(all))
	}
}

func row(w io.Writer, first string, cells ...string) {
	fmt.Fprintf(w, "| %s | %s |\n", first, strings.Join(cells, " | "))
}

// cell is what a table says of faults.
func (f faults) cell() string {
	if len(f) == 0 {
		return "none"
	}
	return "**" + cell(f.String()) + "**"
}

// cell makes a text from outside safe for a cell of a table: one line, without borders.
func cell(text string) string {
	return strings.NewReplacer("|", "/", "\n", " ").Replace(text)
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

func microseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f µs", float64(d)/float64(time.Microsecond))
}

func mebibytes(bytes int64) string {
	return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20))
}

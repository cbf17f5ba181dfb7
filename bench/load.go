package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

const (
	roleLoad = "load"

	// answerTimeout bounds one request of the load.
	answerTimeout = 10 * time.Second

	// maxFaults bounds how many kinds of faults a load distinguishes.
	maxFaults = 8
)

// loadSpec is what to load.
type loadSpec struct {
	Address  string // host:port
	Duration time.Duration
	First    uint64 // number of its first callback
	shape
}

// shape is how a load is made.
type shape struct {
	Connections int // keep-alive connections
	Body        int // bytes of each callback
}

// usualShape is that of all rounds but those of -grow.
var usualShape = shape{Connections: connections, Body: len(sampleCallback)}

// loadResult is the result of a load.
type loadResult struct {
	Started  time.Time
	Elapsed  time.Duration // from the first request to the last answer
	Answers  int           // with status 200
	P50, P99 time.Duration // of those
	Faults   faults        // everything else
}

// playLoad reads a loadSpec, sends callbacks over keep-alive connections, on each of
// them one as soon as the one before is answered, and prints a loadResult.
func playLoad(ctx context.Context, in io.Reader, out io.Writer) error {
	var spec loadSpec
	if err := json.NewDecoder(in).Decode(&spec); err != nil {
		return fmt.Errorf("reading what to load: %w", err)
	}
	result := drive(ctx, spec)
	if err := ctx.Err(); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

// faults counts faults by kind.
type faults map[string]int

func (f faults) add(what string, count int) {
	if _, known := f[what]; !known && len(f) >= maxFaults {
		what = "other"
	}
	f[what] += count
}

func (f faults) merge(other faults) {
	for what, count := range other {
		f.add(what, count)
	}
}

func (f faults) total() int {
	total := 0
	for _, count := range f {
		total += count
	}
	return total
}

// String lists the faults, the most frequent first.
func (f faults) String() string {
	kinds := make([]string, 0, len(f))
	for what := range f {
		kinds = append(kinds, what)
	}
	slices.SortFunc(kinds, func(a, b string) int {
		return cmp.Or(cmp.Compare(f[b], f[a]), cmp.Compare(a, b))
	})
	var text []byte
	for i, what := range kinds {
		if i > 0 {
			text = append(text, "; "...)
		}
		text = fmt.Appendf(text, "%d × %s", f[what], what)
	}
	return string(text)
}

// fault returns the kind of a failed request: its cause, without the numbers that would
// make each failure a kind of its own.
func fault(err error) string {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err.Error()
}

// quantile returns the value below which that share of the values lies.
func quantile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}

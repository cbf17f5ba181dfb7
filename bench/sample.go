package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// sample is the result of one round for one contender.
type sample struct {
	accepted  float64       // requests answered 200, per second
	delivered float64       // deliveries per second, from the first request until the inbox was empty
	delivers  bool          // delivered is the figure to compare
	p50, p99  time.Duration // until the answer
	server    time.Duration // CPU time of the server per request
	generator time.Duration // CPU time of the load generator per request
	rss       int64         // peak of the server's memory, in bytes
	ready     time.Duration // from the start of the process to the first 200
	slowest   time.Duration // slowest of the operator's questions; only with a backlog
	faults    faults
}

// rate is the figure by which contenders are compared.
func (s sample) rate() float64 {
	if s.delivers {
		return s.delivered
	}
	return s.accepted
}

// String is a line for the progress.
func (s sample) String() string {
	text := fmt.Sprintf("%.0f accepted/s, p50 %s, p99 %s, CPU %s + %s, peak RSS %d MiB, ready in %s",
		s.accepted, s.p50, s.p99, s.server, s.generator, s.rss>>20, s.ready)
	if s.delivers {
		text = fmt.Sprintf("%.0f delivered/s, ", s.delivered) + text
	}
	if len(s.faults) > 0 {
		text += ", FAULTS: " + s.faults.String()
	}
	return text
}

// medians returns the median of each figure, and all faults.
func medians(samples []sample) sample {
	m := sample{
		accepted:  median(samples, func(s sample) float64 { return s.accepted }),
		delivered: median(samples, func(s sample) float64 { return s.delivered }),
		p50:       median(samples, func(s sample) time.Duration { return s.p50 }),
		p99:       median(samples, func(s sample) time.Duration { return s.p99 }),
		server:    median(samples, func(s sample) time.Duration { return s.server }),
		generator: median(samples, func(s sample) time.Duration { return s.generator }),
		rss:       median(samples, func(s sample) int64 { return s.rss }),
		ready:     median(samples, func(s sample) time.Duration { return s.ready }),
		slowest:   median(samples, func(s sample) time.Duration { return s.slowest }),
		faults:    make(faults),
	}
	for _, s := range samples {
		m.delivers = m.delivers || s.delivers
		m.faults.merge(s.faults)
	}
	return m
}

// median returns the median of a figure of at least one sample.
func median[T int64 | float64 | time.Duration](samples []sample, figure func(sample) T) T {
	values := make([]T, len(samples))
	for i, s := range samples {
		values[i] = figure(s)
	}
	slices.SortFunc(values, cmp.Compare[T])
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

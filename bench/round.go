package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

const (
	// warmUp is how long a server is loaded before it is measured.
	warmUp = time.Second

	// drainTimeout is how long an inbox may take to become empty, as a multiple of the
	// time for which it was filled.
	drainTimeout = 10

	// drainPause is the time between two looks at an inbox.
	drainPause = 10 * time.Millisecond
)

// round measures a contender once. With an error it returns what it has measured so far.
func (b *bench) round(ctx context.Context, c *contender) (sample, error) {
	got := sample{delivers: c.delivers, faults: make(faults)}
	s, stop, err := b.launch(ctx, c)
	if err != nil {
		return got, err
	}
	defer stop()
	got.ready = s.ready
	if c.slow {
		return b.slowRound(ctx, c, s, got)
	}

	if _, _, err := b.load(ctx, s, warmUp); err != nil {
		return got, err
	}
	before, err := b.tally(ctx, c, s, 0)
	if err != nil {
		return got, err
	}
	meanwhile, err := s.accompany(ctx, c)
	if err != nil {
		return got, err
	}
	cpuBefore, err := cpuTime(s.cmd.Process.Pid)
	if err != nil {
		meanwhile.stop()
		return got, err
	}
	result, generatorCPU, err := b.load(ctx, s, b.opts.time)
	got.faults.merge(meanwhile.stop())
	if err != nil {
		return got, err
	}
	got.faults.merge(result.Faults)
	after, err := b.tally(ctx, c, s, before.taken+c.copies()*int64(result.Answers))
	if err != nil {
		return got, err
	}
	after.taken -= meanwhile.replayed()
	total := after.at.Sub(result.Started)
	cpuAfter, err := cpuTime(s.cmd.Process.Pid)
	if err != nil {
		return got, err
	}
	if got.rss, err = peakRSS(s.cmd.Process.Pid); err != nil {
		return got, err
	}

	if c.backlog {
		if got.slowest, err = s.slowest(ctx); err != nil {
			return got, err
		}
	}

	answers := max(result.Answers, 1)
	got.accepted = float64(result.Answers) / result.Elapsed.Seconds()
	got.delivered = float64(after.delivered-before.delivered) / total.Seconds()
	got.p50, got.p99 = result.P50, result.P99
	got.server = (cpuAfter - cpuBefore) / time.Duration(answers)
	got.generator = generatorCPU / time.Duration(answers)
	after.check(before, c, result.Answers, got.faults)
	return got, nil
}

// launch starts a contender, and the NATS servers that it needs. What it stored before is
// removed, unless it has a backlog.
func (b *bench) launch(ctx context.Context, c *contender) (s *server, stop func(), err error) {
	if !c.backlog {
		if err := os.RemoveAll(b.home(c)); err != nil {
			return nil, nil, err
		}
	}
	stopNATS := func() {}
	if c.nats {
		if stopNATS, err = b.startNATS(ctx, c); err != nil {
			return nil, nil, err
		}
	}
	s, err = b.startServer(ctx, c, b.nextSeries())
	if err != nil {
		stopNATS()
		return nil, nil, err
	}
	return s, func() { s.stop(); stopNATS() }, nil
}

// load sends callbacks to the server for that long. It also returns the CPU time that the
// load used.
func (b *bench) load(ctx context.Context, s *server, d time.Duration) (loadResult, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, d+2*answerTimeout)
	defer cancel()
	result := loadResult{Faults: make(faults)}
	cpu, err := play(ctx, roleLoad, loadSpec{Address: s.address, Duration: d, First: b.nextSeries(), shape: b.shape}, &result)
	return result, cpu, err
}

// tally is the counts of a gateway, by delivery, and the upstream.
type tally struct {
	at                 time.Time // when they were taken
	pending, delivered int64
	taken              int64 // by the upstream
}

// tally returns the counts. If the contender delivers, it first waits until the upstream
// has taken that many events and the inbox is empty.
func (b *bench) tally(ctx context.Context, c *contender, s *server, taken int64) (t tally, err error) {
	t.at = time.Now()
	if !c.stores {
		return t, nil
	}
	if c.delivers {
		if t.at, err = b.awaitEmpty(ctx, c, s, taken); err != nil {
			return t, err
		}
	}
	if t.pending, err = s.deliveries(ctx, c.watched(), "pending"); err != nil {
		return t, err
	}
	if t.delivered, err = s.deliveries(ctx, c.watched(), "delivered"); err != nil {
		return t, err
	}
	t.taken, err = b.upstream.taken(ctx)
	return t, err
}

// awaitEmpty waits until the inbox is empty and returns when that was seen.
func (b *bench) awaitEmpty(ctx context.Context, c *contender, s *server, taken int64) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout*max(b.opts.time, warmUp))
	defer cancel()
	for {
		// the upstream is asked first, since that costs the gateway nothing
		count, err := b.upstream.taken(ctx)
		if err == nil && count >= taken {
			count, err = s.deliveries(ctx, c.watched(), "pending")
			if err == nil && count == 0 {
				return time.Now(), nil
			}
		}
		if err != nil {
			return time.Time{}, err
		}
		select {
		case <-s.ended:
			return time.Time{}, fmt.Errorf("the server ended; its log ends:\n%s", tail(s.log))
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("the inbox is not empty: %w", ctx.Err())
		case <-time.After(drainPause):
		}
	}
}

// check checks by the counts that every callback that was answered 200 is stored, and
// delivered once.
func (t tally) check(before tally, c *contender, answers int, found faults) {
	if !c.stores {
		return
	}
	kept := t.pending - before.pending
	if c.delivers {
		kept = t.delivered - before.delivered
		if repeats := t.taken - before.taken - kept; repeats > 0 {
			found.add("delivered more than once", int(repeats))
		}
	}
	if lost := c.copies()*int64(answers) - kept; lost > 0 {
		found.add("answered 200 but not in the inbox", int(lost))
	}
}

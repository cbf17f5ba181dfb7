package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/caddybinary"
)

// bench is one run.
type bench struct {
	opts     *options
	dir      string // has everything that the run stores, and is removed after it
	caddy    string // path of the binary
	upstream *upstream
	series   uint64   // number of series of callbacks so far
	nats     []string // URLs of the servers, while a contender needs them
	shape    shape    // of the load
}

// measure runs all chosen contenders in turn, round by round, and prints the results.
func measure(ctx context.Context, opts *options) (err error) {
	dir, err := os.MkdirTemp(opts.dir, "fotor-webhook-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	b := &bench{opts: opts, dir: dir, caddy: opts.caddy, shape: usualShape}
	if b.caddy == "" {
		progress("building Caddy")
		if b.caddy, err = caddybinary.Build(ctx, dir); err != nil {
			return err
		}
	}
	m, err := b.describe(ctx)
	if err != nil {
		return err
	}
	if b.upstream, err = startUpstream(ctx); err != nil {
		return err
	}
	defer b.upstream.stop()
	if opts.grow != nil {
		return b.grow(ctx, m)
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	all, err := b.rounds(ctx, opts.only)
	if err != nil {
		return err
	}
	if opts.profile != "" {
		if err := b.profiles(ctx); err != nil {
			return err
		}
	}
	return report(os.Stdout, m, opts, all)
}

// prepare fills the inboxes that start with a backlog.
func (b *bench) prepare(ctx context.Context) error {
	for i := range b.opts.only {
		c := &b.opts.only[i]
		if !c.backlog {
			continue
		}
		if err := b.fill(ctx, c, b.opts.pending); err != nil {
			return err
		}
	}
	return nil
}

// fill stores so many events more in a contender's inbox. If it delivers, they have been
// delivered.
func (b *bench) fill(ctx context.Context, c *contender, count int) error {
	progress("%s: storing %d events", c.key, count)
	file := b.inboxFile(c)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	spec := fillSpec{File: file, Count: count, First: b.nextSeries()}
	if c.delivers {
		spec.Delivered = count
	}
	var result fillResult
	if _, err := play(ctx, roleFill, spec, &result); err != nil {
		return err
	}
	progress("%s: %d events pending, stored in %s, inbox of %d MiB", c.key, result.Pending, result.Took.Round(time.Millisecond), result.Bytes>>20)
	return nil
}

// rounds returns the samples of each contender, by its key.
func (b *bench) rounds(ctx context.Context, contenders []contender) (map[string][]sample, error) {
	all := make(map[string][]sample)
	for round := range b.opts.rounds {
		for i := range contenders {
			c := &contenders[i]
			got, err := b.round(ctx, c)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				// the others can still be measured
				got.faults.add(fault(err), 1)
				progress("%s: %v", c.key, err)
			}
			all[c.key] = append(all[c.key], got)
			progress("round %d, %s: %s", round+1, c.key, got)
		}
	}
	return all, nil
}

// home returns the directory of a contender's files.
func (b *bench) home(c *contender) string { return filepath.Join(b.dir, c.key) }

func (b *bench) inboxFile(c *contender) string {
	return filepath.Join(b.home(c), "inbox", "events.db")
}

// nextSeries returns the number of the first callback of a new series, so that none is
// sent twice. A series has 2³² callbacks.
func (b *bench) nextSeries() uint64 {
	first := b.series << 32
	b.series++
	return first
}

// progress prints to stderr what is going on.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}

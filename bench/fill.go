package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/sqlite"
	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	roleFill = "fill"

	// putters is how many events are put at once, so that many share a commit.
	putters = 256

	// fillTimeout bounds how long a fill may take, and fillEach what it may take more for
	// each event.
	fillTimeout = 20 * time.Minute
	fillEach    = 500 * time.Microsecond
)

// fillSpec is what to fill.
type fillSpec struct {
	File  string
	Count int
	First uint64 // number of its first callback

	// Delivered of the callbacks are delivered then, the oldest of them; the others stay
	// pending.
	Delivered int
}

// fillResult is the result of a fill.
type fillResult struct {
	Pending int64
	Bytes   int64
	Took    time.Duration
}

// playFill reads a fillSpec, puts that many callbacks into an inbox as the gateway would,
// and prints a fillResult.
func playFill(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	var spec fillSpec
	if err := json.NewDecoder(in).Decode(&spec); err != nil {
		return fmt.Errorf("reading what to fill: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, fillTimeout+time.Duration(spec.Count)*fillEach)
	defer cancel()
	box, err := openInbox(ctx, spec.File)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, box.Close()) }()

	begin := time.Now()
	if err := fill(ctx, box, spec); err != nil {
		return err
	}
	if err := settle(ctx, box, spec.Delivered, inbox.Deliver, inbox.Attempt{Status: 200}); err != nil {
		return err
	}
	took := time.Since(begin)
	stats, err := box.Stats(ctx)
	if err != nil {
		return err
	}
	if pending, expected := stats.Events[inbox.Pending], int64(spec.Count-spec.Delivered); pending < expected {
		return fmt.Errorf("%d events are pending: expected %d", pending, expected)
	}
	return json.NewEncoder(out).Encode(fillResult{Pending: stats.Events[inbox.Pending], Bytes: stats.Bytes, Took: took})
}

// openInbox opens a file as the gateway would, with room for anything.
func openInbox(ctx context.Context, file string) (inbox.Inbox, error) {
	module := &sqlite.Inbox{Path: file, MaxSize: 1 << 40}
	return module.Open(ctx, "bench", inbox.Policy{Keep: 7 * 24 * time.Hour, Quarantine: 1000}, zap.NewNop())
}

// settle ends the deliveries of that many events, the oldest that are pending.
func settle(ctx context.Context, box inbox.Inbox, count int, verdict inbox.Verdict, attempt inbox.Attempt) error {
	if count == 0 {
		return nil
	}
	queue, err := box.Queue(ctx, inbox.DefaultDestination)
	if err != nil {
		return err
	}
	for count > 0 {
		leases, err := queue.Lease(ctx, min(count, 4*putters))
		if err != nil {
			return err
		}
		outcomes := make([]inbox.Outcome, len(leases))
		attempt.At = time.Now()
		for i, lease := range leases {
			outcomes[i] = inbox.Outcome{Lease: lease, Verdict: verdict, Attempt: attempt}
		}
		if err := queue.Settle(ctx, outcomes...); err != nil {
			return err
		}
		count -= len(leases)
	}
	return nil
}

// fill puts callbacks with numbers from spec.First on.
func fill(ctx context.Context, box inbox.Store, spec fillSpec) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Uint64
	var running sync.WaitGroup
	for range putters {
		running.Go(func() {
			var body []byte
			for {
				n := next.Add(1) - 1
				if n >= uint64(spec.Count) || ctx.Err() != nil {
					return
				}
				body = appendCallback(body[:0], spec.First+n)
				if err := putCallback(ctx, box, body); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

func putCallback(ctx context.Context, box inbox.Store, body []byte) error {
	parsed, err := callback.Parse(body, nil)
	if err != nil {
		return err
	}
	_, err = box.Put(ctx, parsed.Event(callback.Arrival{At: time.Now(), Source: netip.AddrFrom4([4]byte{127, 0, 0, 1})}))
	return err
}

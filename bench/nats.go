package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/natstest"
)

// natsNodes is how many NATS servers there are, each of which stores every event. They are
// processes on this machine.
const natsNodes = 3

// natsContenders are those of -inbox nats, and those that they are compared with.
var natsContenders = append(contendersAmong("c"), []contender{
	{
		key: "n", name: "as (c), inbox on three NATS servers", stores: true, nats: true,
		site: func(p places) string { return p.gatewayOnNATS("forward http://" + p.upstream + heldPath) },
	},
	{
		key: "n1", name: "inbox on NATS, upstream takes 100 ms, one Caddy", stores: true, nats: true, slow: true, servers: 1,
		site: func(p places) string { return p.gatewayOnNATS("forward http://" + p.upstream + slowPath) },
	},
	{
		key: "n2", name: "as (n1), two Caddys", stores: true, nats: true, slow: true, servers: 2,
		site: func(p places) string { return p.gatewayOnNATS("forward http://" + p.upstream + slowPath) },
	},
	{
		key: "nd", name: "as (n), accept and deliver", stores: true, delivers: true, nats: true,
		site: func(p places) string { return p.gatewayOnNATS("forward http://" + p.upstream + "/") },
	},
	{
		key: "nd3", name: "as (nd), with three destinations", stores: true, delivers: true, nats: true, destinations: 3,
		site: func(p places) string { return p.gatewayOnNATS(p.destinations("one", "two", "three")) },
	},
	{
		key: "ndd", name: "as (nd), with a second destination that is down", stores: true, delivers: true, nats: true, down: true,
		site: func(p places) string { return p.gatewayOnNATS(p.withOneDown()) },
	},
}...)

func contendersAmong(keys ...string) (chosen []contender) {
	for _, key := range keys {
		if c, ok := contenderByKey(contenders, key); ok {
			chosen = append(chosen, c)
		}
	}
	return chosen
}

// gatewayOnNATS is gateway with an inbox on NATS, which has its defaults too.
func (p places) gatewayOnNATS(forward string) string {
	inbox := fmt.Sprintf("nats %s {\n\t\t\treplicas %d\n\t\t}", strings.Join(p.nats, " "), natsNodes)
	return gateway(inbox, forward)
}

// startNATS starts the servers for a round of a contender.
func (b *bench) startNATS(ctx context.Context, c *contender) (stop func(), err error) {
	cluster, err := natstest.Start(ctx, natstest.Config{
		Nodes: natsNodes, Dir: filepath.Join(b.home(c), "nats"), Separate: true, MaxPayload: 4 << 20,
	})
	if err != nil {
		return nil, err
	}
	b.nats = cluster.URLs()
	return func() {
		if err := cluster.Stop(); err != nil {
			progress("%s: %v", c.key, err)
		}
	}, nil
}

// slowRound measures deliveries to a slow upstream while no callbacks arrive. The other
// Caddys start first, then the inbox is filled.
func (b *bench) slowRound(ctx context.Context, c *contender, s *server, got sample) (sample, error) {
	got.delivers = true
	for n := 1; n < c.servers; n++ {
		other, err := b.startServerAt(ctx, c, b.nextSeries(), filepath.Join(b.home(c), fmt.Sprint("server-", n)))
		if err != nil {
			return got, err
		}
		defer other.stop()
	}
	if err := b.fillSlow(ctx, c, s, &got); err != nil {
		return got, err
	}
	repeats, err := b.upstream.repeated(ctx)
	if err != nil {
		return got, err
	}
	cpuBefore, err := cpuTime(s.cmd.Process.Pid)
	if err != nil {
		return got, err
	}
	taken, took, err := b.takenWithin(ctx, b.opts.time)
	if err != nil {
		return got, err
	}
	got.delivered = float64(taken) / took.Seconds()
	cpuAfter, err := cpuTime(s.cmd.Process.Pid)
	if err != nil {
		return got, err
	}
	got.server = (cpuAfter - cpuBefore) * time.Duration(c.servers) / time.Duration(max(taken, 1))
	if got.rss, err = peakRSS(s.cmd.Process.Pid); err != nil {
		return got, err
	}
	after, err := b.upstream.repeated(ctx)
	if err != nil {
		return got, err
	}
	if after > repeats {
		got.faults.add("delivered more than once", int(after-repeats))
	}
	pending, err := s.deliveries(ctx, "", "pending")
	if err == nil && pending == 0 {
		got.faults.add("the inbox became empty", 1)
	}
	return got, err
}

// fillSlow loads the server, a little at a time, until every Caddy will be busy during the
// whole measurement.
func (b *bench) fillSlow(ctx context.Context, c *contender, s *server, got *sample) error {
	var answers int
	var elapsed, generator time.Duration
	enough := backlogFor(c.servers, b.opts.time)
	for {
		result, cpu, err := b.load(ctx, s, warmUp)
		if err != nil {
			return err
		}
		got.faults.merge(result.Faults)
		if result.Answers == 0 {
			return fmt.Errorf("the server takes nothing: %s", result.Faults)
		}
		answers += result.Answers
		elapsed += result.Elapsed
		generator += cpu
		got.p50, got.p99 = result.P50, result.P99
		got.generator = generator / time.Duration(answers)
		got.accepted = float64(answers) / elapsed.Seconds()
		pending, err := s.deliveries(ctx, "", "pending")
		if err != nil {
			return err
		}
		if pending >= enough {
			return nil
		}
	}
}

// backlogFor returns a number of events that those servers cannot deliver in that time.
func backlogFor(servers int, d time.Duration) int64 {
	const concurrency = 32 // of one Caddy, by default
	return int64(servers) * concurrency * int64((2*d+5*time.Second)/slowAnswer)
}

// takenWithin returns how many events the upstream takes in about that time.
func (b *bench) takenWithin(ctx context.Context, d time.Duration) (taken int64, took time.Duration, err error) {
	before, err := b.upstream.taken(ctx)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	select {
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	case <-time.After(d):
	}
	after, err := b.upstream.taken(ctx)
	return after - before, time.Since(began), err
}

// Command bench compares the gateway with Caddy alone, side by side, in one run, on one
// machine. It builds Caddy, runs each contender in a process of its own on 127.0.0.1,
// loads it from another process, and prints a Markdown table with the ratios that the
// gateway aims at.
//
//	go run ./bench [-time 10s] [-rounds 3] [-dir /the/disk] [-only a,b,c]
//	go run ./bench -inbox nats
//	go run ./bench -grow
//
// It reads /proc, so it needs Linux.
//
// Read the files in this order:
//   - main.go, options.go: the command
//   - measure.go, round.go: a run and its rounds; nats.go: rounds with a slow upstream;
//     profile.go: profiles; grow.go with growreport.go: more and more of everything
//   - contender.go, server.go: what is measured, and how it is started
//   - process.go: the roles that have processes of their own; load.go with drive.go and
//     callback.go: the load; upstream.go: the destination; fill.go: a backlog
//   - company.go: who uses a server beside the load: operator.go: an operator at work;
//     browser.go: pages of the dashboard that are open
//   - client.go, proc.go, machine.go: looking at servers, processes and the machine
//   - sample.go, target.go, report.go: the results
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// roles are what bench does in processes of its own, so that they do not count for the
// server's figures. The first argument names one.
var roles = map[string]func(ctx context.Context, in io.Reader, out io.Writer) error{
	roleLoad:     playLoad,
	roleUpstream: playUpstream,
	roleFill:     playFill,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 1 {
		if play, ok := roles[args[0]]; ok {
			return play(ctx, os.Stdin, os.Stdout)
		}
	}
	opts, err := parseOptions(args)
	if err != nil {
		return err
	}
	return measure(ctx, opts)
}

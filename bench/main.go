// Command bench measures the gateway beside what Caddy does without it: side by
// side, in one run, on one machine. It builds Caddy, runs each contender as a
// process of its own on 127.0.0.1, loads it from another process, and prints a
// Markdown table with the ratios that the gateway aims at.
//
//	go run ./bench [-time 10s] [-rounds 3] [-dir /the/disk] [-only a,b,c]
//	go run ./bench -inbox nats
//
// It reads /proc, so it needs Linux.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// roles are the parts that bench plays in processes of its own, so that the
// figures of a server are the server's alone. The first argument names one.
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

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	roleUpstream = "upstream"

	heldPath  = "/held"  // answers such that a gateway holds deliveries
	slowPath  = "/slow"  // takes slowAnswer for each event
	takenPath = "/taken" // answers how many events were taken

	repeatedPath = "/repeated" // answers how often a slow upstream got an event again

	// slowAnswer is how long a slow upstream takes for an event.
	slowAnswer = 100 * time.Millisecond
)

// playUpstream is the upstream of every contender: it reads the body and answers 200. It
// prints its address and ends when its input does.
func playUpstream(ctx context.Context, in io.Reader, out io.Writer) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: upstreamHandler(), ReadHeaderTimeout: 10 * time.Second}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		// the input is empty, and its end means that bench has ended
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if _, err := fmt.Fprintln(out, listener.Addr()); err != nil {
		return err
	}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func upstreamHandler() http.Handler {
	var taken, repeated atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		taken.Add(1)
		w.WriteHeader(http.StatusOK)
	})
	var seen sync.Map // ids of the events that a slow upstream got
	mux.HandleFunc("POST "+slowPath, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		time.Sleep(slowAnswer)
		if _, again := seen.LoadOrStore(r.Header.Get("Webhook-Id"), true); again {
			repeated.Add(1)
		} else {
			taken.Add(1)
		}
		w.WriteHeader(http.StatusOK)
	})
	mux.HandleFunc("GET "+repeatedPath, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strconv.FormatInt(repeated.Load(), 10))
	})
	mux.HandleFunc("POST "+heldPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	mux.HandleFunc("GET "+takenPath, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strconv.FormatInt(taken.Load(), 10))
	})
	return mux
}

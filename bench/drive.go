package main

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// drive runs the load.
func drive(ctx context.Context, spec loadSpec) loadResult {
	client := &fasthttp.HostClient{
		Addr:                      spec.Address,
		MaxConns:                  spec.Connections,
		MaxIdemponentCallAttempts: 1, // a fault is counted, not repeated
		ReadTimeout:               answerTimeout,
		WriteTimeout:              answerTimeout,
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, spec.Duration)
	defer cancel()

	var next atomic.Uint64
	next.Store(spec.First)
	callbacks := modelOf(spec.Body)
	workers := make([]worker, spec.Connections)
	started := time.Now()
	var running sync.WaitGroup
	for i := range workers {
		running.Go(func() { workers[i].run(ctx, client, callbacks, &next) })
	}
	running.Wait()

	result := loadResult{Started: started, Elapsed: time.Since(started), Faults: make(faults)}
	var latencies []time.Duration
	for _, w := range workers {
		latencies = append(latencies, w.latencies...)
		result.Faults.merge(w.faults)
	}
	slices.Sort(latencies)
	result.Answers = len(latencies)
	result.P50, result.P99 = quantile(latencies, 0.50), quantile(latencies, 0.99)
	return result
}

// worker sends callbacks over one connection, one after the other.
type worker struct {
	latencies []time.Duration
	faults    faults
}

func (w *worker) run(ctx context.Context, client *fasthttp.HostClient, callbacks *model, next *atomic.Uint64) {
	w.faults = make(faults)
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.SetRequestURI("http://" + client.Addr + callbackPath)
	request.Header.SetMethod(fasthttp.MethodPost)
	request.Header.SetContentType("application/json")

	var body []byte
	for ctx.Err() == nil {
		body = callbacks.append(body[:0], next.Add(1)-1)
		request.SetBodyRaw(body)
		begin := time.Now()
		err := client.Do(request, response)
		took := time.Since(begin)
		switch {
		case err != nil:
			w.faults.add(fault(err), 1)
		case response.StatusCode() != fasthttp.StatusOK:
			w.faults.add("status "+strconv.Itoa(response.StatusCode()), 1)
		default:
			w.latencies = append(w.latencies, took)
		}
	}
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// How often the operator lists and replays, and how many events.
const (
	listEvery   = time.Second
	replayEvery = time.Second
	replayCount = 50

	// adminTimeout bounds one request to the admin API.
	adminTimeout = 10 * time.Second
)

// questions are requests of an operator: counts, and lists that are cheap or expensive
// for the inbox.
var questions = []string{
	"",
	"default",
	"default/events",
	"default/events?limit=1000",
	"default/events?order=asc",
	"default/events?state=pending",
	"default/events?state=delivered",
	"default/events?state=dead",
	"default/events?state=dead&order=asc",
	"default/events?type=none-such",
	"default/events?type=none-such&order=asc",
	"default/events?task=none-such",
	"default/events?until=48h",
	"default/events?since=1m",
}

// operator lists, tails and replays while a server is under load.
type operator struct {
	server   *server
	cancel   context.CancelFunc
	running  sync.WaitGroup
	replayed atomic.Int64
	notices  atomic.Int64 // bytes that the tail received

	mu     sync.Mutex
	faults faults
}

func (s *server) operate(ctx context.Context) *operator {
	o := &operator{server: s, faults: make(faults)}
	ctx, o.cancel = context.WithCancel(ctx)
	o.running.Go(func() { o.tail(ctx) })
	o.running.Go(func() { o.list(ctx) })
	o.running.Go(func() { o.replay(ctx) })
	return o
}

// stop ends the operator's work and returns what went wrong with it.
func (o *operator) stop() faults {
	o.cancel()
	o.running.Wait()
	return o.faults
}

// note counts a fault, unless the operator has been stopped.
func (o *operator) note(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.faults.add("operator: "+fault(err), 1)
}

func (o *operator) tail(ctx context.Context) {
	body, err := o.server.ask(ctx, http.MethodGet, "default/events/stream")
	if err != nil {
		o.note(ctx, err)
		return
	}
	defer body.Close()
	n, err := io.Copy(io.Discard, body)
	o.notices.Store(n)
	o.note(ctx, err)
}

func (o *operator) list(ctx context.Context) {
	for i := 0; every(ctx, listEvery); i++ {
		_, err := o.server.question(ctx, questions[i%len(questions)])
		o.note(ctx, err)
	}
}

func (o *operator) replay(ctx context.Context) {
	path := fmt.Sprintf("default/replay?state=delivered&limit=%d", replayCount)
	for every(ctx, replayEvery) {
		n, err := o.server.bulk(context.WithoutCancel(ctx), path)
		o.replayed.Add(n)
		o.note(ctx, err)
	}
}

func every(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// ask makes a request to the admin API.
func (s *server) ask(ctx context.Context, method, path string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+s.admin+control.Root+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		_ = response.Body.Close()
		return nil, fmt.Errorf("%s %s: status %d", method, path, response.StatusCode)
	}
	return response.Body, nil
}

// question makes a request and returns how long it took until the end of the answer.
func (s *server) question(ctx context.Context, path string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	began := time.Now()
	body, err := s.ask(ctx, http.MethodGet, path)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	_, err = io.Copy(io.Discard, body)
	return time.Since(began), err
}

// bulk changes many events and returns their number.
func (s *server) bulk(ctx context.Context, path string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	body, err := s.ask(ctx, http.MethodPost, path)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	var answer struct {
		Changed int64 `json:"changed"`
	}
	err = json.NewDecoder(body).Decode(&answer)
	return answer.Changed, err
}

// slowest asks every question a few times and takes its quickest answer, which shows how
// long the work takes, not what else the machine was doing. It returns the slowest of
// these.
func (s *server) slowest(ctx context.Context) (longest time.Duration, err error) {
	for _, path := range questions {
		quickest := adminTimeout
		for range 5 {
			took, err := s.question(ctx, path)
			if err != nil {
				return 0, err
			}
			quickest = min(quickest, took)
		}
		longest = max(longest, quickest)
	}
	return longest, nil
}

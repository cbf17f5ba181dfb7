package dashboard

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/query"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sleep"
)

const (
	// maxLive is how many pages may be told at once, of all handlers and dashboards. It
	// leaves streams of each handler to others. Further pages ask now and then instead.
	maxLive = 32

	// livePause is the least time between two messages. A message says only that something
	// has happened: what a page costs does not grow with the number of callbacks.
	livePause = time.Second

	// livePing is the time after which a silent stream sends a comment, to show that the
	// connection works, and liveWrite how long a write may wait for the client.
	livePing  = 15 * time.Second
	liveWrite = 10 * time.Second
)

// live answers with a stream of server-sent events that tells when something has happened.
func (v *visit) live() error {
	p := query.New(v.r.URL.RawQuery, "handler")
	name := p.Text("handler")
	if err := p.Err(); err != nil {
		return badRequest(err)
	}
	names := v.names
	if name != "" {
		names = []string{name}
	}
	if open := living.Add(1); open > maxLive {
		living.Add(-1)
		v.w.Header().Set("Retry-After", "60")
		return &failure{http.StatusServiceUnavailable, errors.New("too many pages are open")}
	}
	defer living.Add(-1)

	// The stream ends when the server begins to shut down, which would wait for it. The
	// page connects again, and is told by the next config.
	ctx, cancel := context.WithCancel(v.r.Context())
	defer cancel()
	defer context.AfterFunc(v.handler.stopped, cancel)()

	happened := make(chan struct{}, 1)
	for _, name := range names {
		stop, err := v.follow(ctx, name, happened)
		if err != nil {
			return err
		}
		defer stop()
	}
	if err := v.tell(ctx, happened); err != nil && ctx.Err() == nil {
		v.handler.logger.Debug("live stream ended", zap.Error(err))
	}
	return nil
}

// living counts the streams.
var living atomic.Int64

// follow follows what happens at a handler until stop is called.
func (v *visit) follow(ctx context.Context, name string, happened chan<- struct{}) (stop func(), err error) {
	gateway, err := control.Open(name)
	if err != nil {
		return nil, err
	}
	follower, err := gateway.Feed().Follow("")
	if err != nil {
		v.closeGateway(gateway, name)
		return nil, &failure{http.StatusServiceUnavailable, err}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for follower.Wait(ctx) == nil {
			select {
			case happened <- struct{}{}:
			default: // it will be told anyway
			}
			if !sleep.For(ctx, livePause) {
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
		follower.Close()
		v.closeGateway(gateway, name)
	}, nil
}

// tell writes to the client until that has gone.
func (v *visit) tell(ctx context.Context, happened <-chan struct{}) error {
	header := v.w.Header()
	header.Set("Content-Type", control.MediaEvents)
	header.Set("X-Accel-Buffering", "no") // for an nginx in between
	v.w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(v.w)
	message := "retry: 2000\n\n"
	for {
		if err := out.SetWriteDeadline(time.Now().Add(liveWrite)); err != nil {
			return err
		}
		if _, err := v.w.Write([]byte(message)); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
		timer := time.NewTimer(livePing)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-happened:
			message = "event: change\ndata: \n\n"
			if !sleep.For(ctx, livePause) {
				return ctx.Err()
			}
		case <-timer.C:
			message = ": ping\n\n"
		}
		timer.Stop()
	}
}

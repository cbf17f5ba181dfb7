package ready

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := new(fakeInbox)
		running.set(t, "default", in)
		h := started(t, []string{"default"})
		w, _ := get(t, h)
		assert.Equal(t, http.StatusOK, w.Code)
		assert.JSONEq(t, `{"ready":true}`, w.Body.String())
		assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
		assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		w, _ = request(t, h, t.Context(), http.MethodHead)
		assert.Equal(t, http.StatusOK, w.Code)

		time.Sleep(every)
		in.fails(fmt.Errorf("%w: /var/lib/secret.db", inbox.ErrFull))
		w, p := get(t, h)
		assert.Equal(t, http.StatusServiceUnavailable, w.Code)
		assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
		assert.Equal(t, "5", w.Header().Get("Retry-After"))
		assert.Equal(t, problem{
			Type: notReadyType, Title: "Not ready", Status: 503,
			Detail:   `The handler "default" has no room left in its inbox or on its disk.`,
			Handlers: []verdict{{Name: "default", Reason: isFull}},
		}, p)
		assert.NotContains(t, w.Body.String(), "secret", "a stranger sees no path")

		w, p = request(t, h, t.Context(), http.MethodPost)
		assert.Equal(t, http.StatusMethodNotAllowed, w.Code)
		assert.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
		assert.Equal(t, http.StatusMethodNotAllowed, p.Status)
	})
}

func TestReasons(t *testing.T) {
	for want, err := range map[reason]error{
		isStoring:    nil,
		isFull:       fmt.Errorf("storing: %w", inbox.ErrFull),
		isBroken:     fmt.Errorf("%w: %w", inbox.ErrClosed, inbox.ErrBroken),
		isNotRunning: fmt.Errorf("it was: %w", inbox.ErrClosed),
		isSlow:       context.DeadlineExceeded,
		isFailing:    errors.New("input/output error"),
	} {
		t.Run(string(want), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := new(fakeInbox)
				in.fails(err)
				running.set(t, "default", in)
				requireReason(t, started(t, []string{"default"}), want)
			})
		})
	}
}

// Questions share one canary, however many there are.
func TestACanaryIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := new(fakeInbox)
		running.set(t, "default", in)
		modules := []*Handler{started(t, []string{"default"}), started(t, []string{"default"})}
		for range 10 {
			var all sync.WaitGroup
			for i := range 1000 {
				all.Go(func() {
					w, _ := get(t, modules[i%2])
					assert.Equal(t, http.StatusOK, w.Code)
				})
			}
			all.Wait()
			time.Sleep(every / 10)
		}
		assert.LessOrEqual(t, in.probes.Load(), int64(2), "in one second")
		time.Sleep(every)
		get(t, modules[0])
		assert.LessOrEqual(t, in.probes.Load(), int64(3))
	})
}

// Behind a disk that hangs questions wait for a bounded time, and only the first ones.
func TestADiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := new(fakeInbox)
		running.set(t, "default", in)
		h := started(t, []string{"default"})
		requireReason(t, h, isStoring)
		time.Sleep(every)
		in.set(stuck)

		began := time.Now()
		requireReason(t, h, isStoring) // it is not long ago that it stored
		assert.Equal(t, maxWait, time.Since(began))
		for range 100 {
			now := time.Now()
			requireReason(t, h, isStoring)
			require.Equal(t, now, time.Now(), "those that come later do not wait")
		}
		time.Sleep(maxAge)
		requireReason(t, h, isSlow)
		assert.EqualValues(t, 1, in.under.Load(), "probes do not pile up")

		time.Sleep(probeTimeout) // the probe has ended
		now := time.Now()
		requireReason(t, h, isSlow)
		assert.Equal(t, maxWait, time.Since(now), "there is another one")
		in.set(nil)
		time.Sleep(probeTimeout + every)
		requireReason(t, h, isStoring)
	})
}

// A caller that hangs up neither waits nor makes the others wait.
func TestACallerThatHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		in := new(fakeInbox)
		in.set(func(ctx context.Context) error {
			time.Sleep(time.Second)
			return ctx.Err()
		})
		running.set(t, "default", in)
		h := started(t, []string{"default"})
		h.logger = zap.New(core)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		request(t, h, ctx, http.MethodGet)
		assert.Zero(t, logs.Len(), "nothing is known of the inbox yet")
		requireReason(t, h, isStoring)
		assert.EqualValues(t, 1, in.probes.Load(), "the probe of the first was not given up")
	})
}

// After a reload with another inbox the result of the old one means nothing.
func TestAnotherInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, next := new(fakeInbox), new(fakeInbox)
		old.set(stuck)
		running.set(t, "default", old)
		h := started(t, []string{"default"})
		requireReason(t, h, isSlow)
		running.set(t, "default", next)
		requireReason(t, h, isStoring)
		running.set(t, "default", old)
		requireReason(t, h, isSlow) // that the other one has just stored does not count
		running.set(t, "default", next)
		next.fails(inbox.ErrFull)
		time.Sleep(every)
		requireReason(t, h, isFull)
		running.set(t, "default", nil)
		requireReason(t, h, isNotRunning)
		time.Sleep(probeTimeout)
	})
}

// A reload keeps what is known: the canary of the old config is that of the new one.
func TestReloadKeepsTheCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := new(fakeInbox)
		running.set(t, "default", in)
		before := &Handler{logger: zap.NewNop(), app: fakeApp{"default"}}
		requireReason(t, before, isStoring)
		after := started(t, []string{"default"})
		require.NoError(t, before.Cleanup())
		requireReason(t, after, isStoring)
		assert.EqualValues(t, 1, in.probes.Load())
		requireReason(t, before, isStoring) // to a request that outlives its config
		never := &Handler{logger: zap.NewNop(), app: fakeApp{"default"}}
		require.NoError(t, never.Cleanup())
		requireReason(t, never, isStoring)
	})
}

func TestOneOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad := new(fakeInbox), new(fakeInbox)
		bad.fails(inbox.ErrBroken)
		running.set(t, "good", good)
		running.set(t, "bad", bad)
		names := []string{"bad", "good"}
		requireReason(t, started(t, names), isBroken)
		requireReason(t, started(t, names, "bad", "good"), isBroken)
		requireReason(t, started(t, names, "bad"), isBroken)
		requireReason(t, started(t, names, "good"), isStoring)

		good.set(stuck)
		bad.set(stuck)
		time.Sleep(maxAge + every)
		began := time.Now()
		w, p := get(t, started(t, names))
		assert.Equal(t, http.StatusServiceUnavailable, w.Code)
		assert.Equal(t, []verdict{{"bad", isSlow}, {"good", isSlow}}, p.Handlers)
		assert.Equal(t, maxWait, time.Since(began), "the waits do not add up")
		time.Sleep(probeTimeout)
	})
}

// The log has a line when something changes, and the error itself.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		in := new(fakeInbox)
		running.set(t, "default", in)
		h := started(t, []string{"default"})
		h.logger = zap.New(core)
		for _, err := range []error{nil, nil, fmt.Errorf("%w: here", inbox.ErrFull), inbox.ErrFull, nil, nil} {
			in.fails(err)
			get(t, h)
			time.Sleep(every)
		}
		require.Equal(t, 2, logs.Len())
		assert.Equal(t, "not ready", logs.All()[0].Message)
		assert.Equal(t, map[string]any{"handler": "default", "reason": "full", "error": "inbox is full: here"}, logs.All()[0].ContextMap())
		assert.Equal(t, "ready again", logs.All()[1].Message)
	})
}

// An inbox without probes is judged by its summary.
func TestAnInboxWithoutProbes(t *testing.T) {
	in := &statsOnly{stats: inbox.Stats{Bytes: 10, MaxBytes: 20}}
	require.NoError(t, prove(t.Context(), in))
	in.stats.MaxBytes = 0
	require.NoError(t, prove(t.Context(), in))
	in.stats.MaxBytes = 10
	require.ErrorIs(t, prove(t.Context(), in), inbox.ErrFull)
	in.err = inbox.ErrBroken
	require.ErrorIs(t, prove(t.Context(), in), inbox.ErrBroken)
}

type statsOnly struct {
	inbox.Inbox
	stats inbox.Stats
	err   error
}

func (s *statsOnly) Stats(context.Context) (inbox.Stats, error) { return s.stats, s.err }

// The HTTP server may serve before the handlers have started.
func TestBeforeTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(t, []string{"default"})
		requireReason(t, h, isNotRunning)
		running.set(t, "default", new(fakeInbox))
		requireReason(t, h, isStoring)
		none := &Handler{logger: zap.NewNop(), app: fakeApp{}}
		requireReason(t, none, isNotRunning)
	})
}

func TestConfigsThatAreRefused(t *testing.T) {
	for name, is := range map[string]struct {
		handlers, names []string
		want            string
	}{
		"no handler":      {nil, nil, "fotor_webhook_ready: the config has no fotor_webhook handler: expected at least one"},
		"no such handler": {[]string{"a", "b"}, []string{"a", "c"}, `fotor_webhook_ready: the config has no fotor_webhook handler with the name "c": expected of a, b`},
	} {
		t.Run(name, func(t *testing.T) {
			h := &Handler{Names: is.names, app: fakeApp(is.handlers)}
			require.EqualError(t, h.check(), is.want)
		})
	}
	require.EqualError(t, (&Handler{Names: []string{"a b"}}).Validate(),
		`fotor_webhook_ready: name "a b": expected 1 to 64 letters, digits, '_' or '-'`)
	require.EqualError(t, (&Handler{Names: []string{"a", "a"}}).Validate(),
		`fotor_webhook_ready: name "a" is given twice: expected each once`)
	require.NoError(t, (&Handler{Names: []string{"a", "b"}}).Validate())
}

func TestCaddyfile(t *testing.T) {
	h := new(Handler)
	require.NoError(t, h.UnmarshalCaddyfile(caddyfile.NewTestDispenser("fotor_webhook_ready a b")))
	require.Equal(t, []string{"a", "b"}, h.Names)
	require.ErrorContains(t, new(Handler).UnmarshalCaddyfile(caddyfile.NewTestDispenser("fotor_webhook_ready {\na\n}")),
		"fotor_webhook_ready: unexpected block: expected names of fotor_webhook handlers, or nothing")
}

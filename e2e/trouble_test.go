package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

func TestRefusedEventIsTriedAgain(t *testing.T) {
	for name, fail := range map[string]func(w http.ResponseWriter, d delivery){
		"400":                 status(http.StatusBadRequest),
		"404":                 status(http.StatusNotFound),
		"500":                 status(http.StatusInternalServerError),
		"503 without a time":  status(http.StatusServiceUnavailable),
		"a redirect":          func(w http.ResponseWriter, _ delivery) { w.Header().Set("Location", "/elsewhere"); w.WriteHeader(302) },
		"an answer cut short": cutShort,
		"no answer":           hangUp,
		"garbage":             garbage,
		"an unasked upgrade":  switchProtocols,
	} {
		t.Run(name, func(t *testing.T) {
			forwards(t, func(t *testing.T, forward func(string) string) {
				up := newUpstream(t, failTimes(2, fail))
				g := newGateway(t)
				g.Start(forward(up.URL)+quick, "", "")
				id := g.Accept(notice("task", 1))
				await(t, func() bool { return g.Events("delivered") == 1 }, "the delivery")
				attempts := up.Deliveries()
				require.GreaterOrEqual(t, len(attempts), 3)
				for _, d := range attempts {
					assert.Equal(t, id, d.Event.ID)
					assert.NotEqual(t, "/elsewhere", d.Path, "a redirect is not followed")
					assert.JSONEq(t, string(attempts[0].Body), string(d.Body))
				}
			})
		})
	}
}

// cutShort sends a status and a length, then closes before the end of the body.
func cutShort(w http.ResponseWriter, _ delivery) {
	w.Header().Set("Content-Length", "100")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write([]byte("half"))
	panic(http.ErrAbortHandler)
}

func hangUp(http.ResponseWriter, delivery) { panic(http.ErrAbortHandler) }

func garbage(w http.ResponseWriter, _ delivery) { raw(w, "\x16\x03\x01 not HTTP\r\n\r\n") }

func switchProtocols(w http.ResponseWriter, _ delivery) {
	raw(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
}

// raw writes bytes to the connection instead of an answer, and closes it.
func raw(w http.ResponseWriter, bytes string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = conn.Write([]byte(bytes))
	_ = conn.Close()
}

func TestGoneEventIsDeadAtOnce(t *testing.T) {
	forwards(t, func(t *testing.T, forward func(string) string) {
		up := newUpstream(t, status(http.StatusGone))
		g := newGateway(t)
		g.Start(forward(up.URL)+quick, "", "")
		g.Accept(notice("task", 1))
		await(t, func() bool { return g.Events("dead") == 1 }, "the dead event")
		assert.Len(t, up.Deliveries(), 1)
	})
}

func TestEventIsGivenUpAtItsAge(t *testing.T) {
	up := newUpstream(t, status(http.StatusBadRequest))
	g := newGateway(t)
	g.Start("forward "+up.URL+"\nretry {\nfirst 10ms\nmax 50ms\ngive_up 400ms\n}", "", "")
	g.Accept(notice("task", 1))
	await(t, func() bool { return g.Events("dead") == 1 }, "the dead event")
	attempts := up.Deliveries()
	assert.Greater(t, len(attempts), 2)
	assert.GreaterOrEqual(t, attempts[len(attempts)-1].At.Sub(attempts[0].At), 300*time.Millisecond, "not before its age")
}

func TestSilentUpstreamTimesOut(t *testing.T) {
	forwards(t, func(t *testing.T, forward func(string) string) {
		release := make(chan struct{})
		up := newUpstream(t, failTimes(1, func(http.ResponseWriter, delivery) { <-release }))
		defer close(release)
		g := newGateway(t)
		g.Start(forward(up.URL)+"\ntimeout 100ms"+quick, "", "")
		g.Accept(notice("task", 1))
		await(t, func() bool { return g.Events("delivered") == 1 }, "the delivery")
		assert.Len(t, up.Deliveries(), 2)
	})
}

func TestUpstreamThatIsDownIsHeldAndLosesNothing(t *testing.T) {
	forwards(t, func(t *testing.T, forward func(string) string) {
		up := newStoppedUpstream(nil)
		address := up.Listener.Addr().String()
		require.NoError(t, up.Listener.Close())
		g := newGateway(t)
		g.Start(forward("http://"+address)+quick, "", "")

		ids := make(map[string]bool)
		for _, task := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			ids[g.Accept(notice(task, 1))] = true
		}
		await(t, func() bool { return g.held() == 1 }, "the hold")
		assert.Equal(t, len(ids), g.Events("pending"))
		assert.Equal(t, 0, g.Events("dead"))

		up.restart(t, address)
		await(t, func() bool { return g.Events("delivered") == len(ids) }, "all deliveries")
		for id, n := range up.Counts() {
			assert.True(t, ids[id])
			assert.Equal(t, 1, n)
		}
		await(t, func() bool { return g.held() == 0 }, "the end of the hold")
	})
}

func TestRetryAfterHoldsTheUpstream(t *testing.T) {
	for _, code := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		forwards(t, func(t *testing.T, forward func(string) string) {
			up := newUpstream(t, nil)
			busy := func(w http.ResponseWriter, _ delivery) {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(code)
				up.Answer(nil)
			}
			up.Answer(busy)
			g := newGateway(t)
			g.Start(forward(up.URL)+"\nretry {\nfirst 1ms\nmax 10s\n}", "", "")
			g.Accept(notice("a", 1))
			first := up.Await(t, 1)[0]
			for _, task := range []string{"b", "c", "d"} {
				g.Accept(notice(task, 1))
			}
			await(t, func() bool { return g.Events("delivered") == 4 }, "all deliveries")
			for _, d := range up.Deliveries()[1:] {
				assert.GreaterOrEqual(t, d.At.Sub(first.At), 900*time.Millisecond, "asked to wait a second")
				assert.Equal(t, "1", d.Header.Get("Fotor-Webhook-Attempt"), "waiting costs no attempt")
			}
		})
	}
}

func TestPoisonedEventHoldsNobodyBack(t *testing.T) {
	up := newUpstream(t, func(w http.ResponseWriter, d delivery) {
		if d.Event.TaskID == "poison" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	g := newGateway(t)
	g.Start("forward "+up.URL+quick, "", "")
	g.Accept(notice("poison", 1))
	await(t, func() bool { return up.Counts()[up.Await(t, 1)[0].Event.ID] > 6 }, "many attempts of the poisoned event")
	for _, task := range []string{"a", "b", "c"} {
		g.Accept(notice(task, 1))
	}
	await(t, func() bool { return g.Events("delivered") == 3 }, "the others")
	assert.Equal(t, 1, g.Events("pending"))
	assert.InDelta(t, 0, g.held(), 0)
}

// A task's events are delivered in the order of their arrival, even if the first one is
// refused for a while. An in-progress event is dropped if a final one has been delivered.
func TestOrderOfOneTask(t *testing.T) {
	up := newUpstream(t, status(http.StatusNotFound))
	g := newGateway(t)
	g.Start("forward "+up.URL+quick, "", "")
	g.Accept(`{"taskId":"t","status":1,"type":"a","resultUrl":"https://x/1"}`)
	g.Accept(`{"taskId":"t","status":1,"type":"a","resultUrl":"https://x/2"}`)
	g.Accept(`{"taskId":"t","status":0,"type":"a"}`)
	up.Await(t, 2)
	up.Answer(nil)
	await(t, func() bool { return g.Events("delivered") == 2 && g.Events("superseded") == 1 }, "both results")
	var bodies []string
	for _, d := range up.Deliveries() {
		bodies = append(bodies, string(d.Body))
		assert.NotEqual(t, "in_progress", d.Event.Status)
	}
	assert.Contains(t, bodies[len(bodies)-1], "https://x/2")
	assert.Contains(t, bodies[len(bodies)-2], "https://x/1")
	for _, body := range bodies[:len(bodies)-1] {
		assert.Contains(t, body, "https://x/1", "the second waits for the first")
	}
}

func TestLargeAnswerIsBounded(t *testing.T) {
	forwards(t, func(t *testing.T, forward func(string) string) {
		up := newUpstream(t, func(w http.ResponseWriter, _ delivery) {
			_, _ = w.Write([]byte(strings.Repeat("x", 4<<20)))
		})
		g := newGateway(t)
		g.Start(forward(up.URL)+quick, "", "")
		g.Accept(notice("task", 1))
		await(t, func() bool { return g.Events("delivered") == 1 }, "the delivery")
		assert.Len(t, up.Deliveries(), 1)
	})
}

// An operator sees how much a service in trouble gets, and that it gets more again.
func TestPressureIsShown(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL+"\nconcurrency 4\nretry {\nfirst 1h\nmax 1h\n}", "", "")
	pressure := func() control.Pressure { return ask[control.Handler](g, http.MethodGet, "default", "").Pressure }
	assert.Equal(t, control.Pressure{Limit: 4, Concurrency: 4}, pressure())
	assert.Contains(t, g.requireCLI("status"), "Destination\tno attempts in the last minute\n")
	g.Accept(notice("first", 1))
	g.delivered(1)
	assert.Contains(t, g.requireCLI("status"), "Destination\twell: no trouble in 1 attempt of the last minute\n")

	up.Answer(status(http.StatusServiceUnavailable))
	for i := range 6 {
		g.Accept(notice(fmt.Sprint("failing-", i), 1))
	}
	await(t, func() bool { return pressure().Attempts == 7 }, "the failures")
	assert.Equal(t, control.Pressure{Limit: 1, Concurrency: 4, Attempts: 7, Delivered: 1, Failed: 6}, pressure())
	assert.Contains(t, g.requireCLI("status"), "Destination\tunder pressure: 6 of 7 attempts failed in the last minute, limited to 1 at once\n")
	assert.InDelta(t, 1, g.Metric(attemptLimit), 0)

	up.Answer(nil)
	for i := range 3 {
		g.Accept(notice(fmt.Sprint("good-", i), 1))
	}
	g.delivered(4)
	assert.Equal(t, control.Pressure{Limit: 4, Concurrency: 4, Attempts: 10, Delivered: 4, Failed: 6}, pressure())
	assert.Contains(t, g.requireCLI("status"), "Destination\t6 of 10 attempts failed in the last minute\n")
	assert.InDelta(t, 4, g.Metric(attemptLimit), 0)
}

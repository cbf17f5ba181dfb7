package fotorwebhook

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// notingInbox notes what is stored in it.
type notingInbox struct {
	slowInbox
	mu       sync.Mutex
	stored   []*inbox.Event
	suspects int
	left     []time.Duration // until the context of storing ends
}

func (n *notingInbox) Open(context.Context, string, inbox.Policy, *zap.Logger) (inbox.Inbox, error) {
	return n, nil
}

func (n *notingInbox) note(ctx context.Context) {
	deadline, _ := ctx.Deadline()
	n.left = append(n.left, time.Until(deadline))
}

func (n *notingInbox) Put(ctx context.Context, e *inbox.Event) (duplicateOf string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note(ctx)
	n.stored = append(n.stored, e)
	return "", nil
}

func (n *notingInbox) Quarantine(ctx context.Context, _ *inbox.Suspect) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note(ctx)
	n.suspects++
	return nil
}

// attach gives a handler an inbox until the function is called that it returns.
func attach(t *testing.T, h *Handler, s interface {
	gateway.Storage
	gateway.Emitter
},
) (detach func()) {
	t.Helper()
	quarantine := 1
	h.Quarantine = &quarantine
	att, err := gateway.Attach(t.Context(), &gateway.Config{Name: t.Name(), Key: fmt.Sprintf("%p", s), Storage: s, Events: s, Logger: h.logger}, h.gateway)
	require.NoError(t, err)
	return func() {
		att.Detach()
		require.NoError(t, att.Release())
	}
}

// largeCallback returns a callback whose body is large.
func largeCallback(task string) string { return sizedCallback(task, largeBody) }

// sizedCallback returns a callback that is a little longer than size.
func sizedCallback(task string, size int) string {
	return fmt.Sprintf(`{"taskId":%q,"status":1,"type":"x","resultUrl":"","more":%q}`, task, strings.Repeat("x", size))
}

// post has a handler receive a body, as of a caller who waits until ctx ends.
func post(ctx context.Context, h *Handler, body string) answer {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return h.receive(httptest.NewRecorder(), fromAddress(r, "192.0.2.1"), time.Now())
}

// takeTurns takes all turns of large bodies until the function is called that it returns.
func takeTurns(t *testing.T, h *Handler) (release func()) {
	t.Helper()
	require.True(t, h.bodies.large.TryAcquire(parsedAtOnce()), "turns are given back")
	return func() { h.bodies.large.Release(parsedAtOnce()) }
}

// Large bodies wait until few enough are being parsed. That takes nothing of the time in
// which they are stored, and small ones do not wait for them.
func TestLargeBodiesAreParsedInTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := receiver(t)
		s := new(notingInbox)
		defer attach(t, h, s)()
		release := takeTurns(t, h)
		invalid := `{"status":1,"more":"` + strings.Repeat("x", largeBody) + `"}`
		bodies := []string{largeCallback("a"), largeCallback("b"), largeCallback("c"), invalid}
		answers := make(chan int, len(bodies))
		hangUp, cancel := context.WithCancel(t.Context())
		for _, body := range bodies {
			go func() { answers <- post(hangUp, h, body).status }()
		}
		synctest.Wait()
		began := time.Now()
		require.Equal(t, http.StatusOK, post(t.Context(), h, `{"taskId":"small","status":1,"type":"x"}`).status)
		require.Equal(t, http.StatusOK, post(t.Context(), h, sizedCallback("medium", 2*mediumBody)).status)
		require.Zero(t, time.Since(began))
		require.Len(t, s.stored, 2)

		cancel() // they are stored all the same
		time.Sleep(gateway.StoreTimeout - time.Second)
		require.Empty(t, answers)
		release()
		got := map[int]int{}
		for range bodies {
			got[<-answers]++
		}
		assert.Equal(t, map[int]int{http.StatusOK: 3, http.StatusUnprocessableEntity: 1}, got)
		assert.Len(t, s.stored, 5)
		assert.Equal(t, 1, s.suspects)
		for _, left := range s.left {
			assert.GreaterOrEqual(t, left, gateway.StoreTimeout)
		}
		for _, e := range s.stored {
			large := len(e.Body) > largeBody
			assert.True(t, !large || e.MakeFormerID == nil, "the memory of a large callback is not kept for its event")
			assert.Equal(t, large, e.FormerID != "")
		}
		takeTurns(t, h)()
	})
}

// However many large bodies there are, each caller gets an answer in time.
func TestLargeBodyThatIsNotParsedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, logs := receiver(t)
		s := new(notingInbox)
		defer attach(t, h, s)()
		release := takeTurns(t, h)
		answers := make(chan answer, 100)
		began := time.Now()
		for i := range cap(answers) {
			go func() { answers <- post(t.Context(), h, largeCallback(fmt.Sprint(i))) }()
		}
		synctest.Wait()
		_, used := h.bodies.room.Load()
		assert.GreaterOrEqual(t, used, int64(largeBody*cap(answers)), "they keep their room")
		for range cap(answers) {
			got := <-answers
			assert.Equal(t, gateway.Unavailable, got.outcome)
			assert.Equal(t, "Retry-After", got.header)
		}
		assert.Equal(t, gateway.StoreTimeout, time.Since(began))
		lines := logs.FilterMessage("callback not read").All()
		require.NotEmpty(t, lines)
		assert.Equal(t, errManyLarge.Error(), lines[0].ContextMap()["error"])
		assert.Empty(t, s.stored)
		assert.Zero(t, s.suspects)
		_, used = h.bodies.room.Load()
		assert.Zero(t, used)

		release()
		assert.Equal(t, http.StatusOK, post(t.Context(), h, largeCallback("later")).status)
	})
}

// A callback that waits over a reload is stored where it will be delivered.
func TestLargeBodyThatWaitsOverAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := receiver(t)
		first, second := new(notingInbox), new(notingInbox)
		detach := attach(t, h, first)
		release := takeTurns(t, h)
		answers := make(chan int)
		go func() { answers <- post(t.Context(), h, largeCallback("a")).status }()
		synctest.Wait()

		next, _ := receiver(t)
		defer attach(t, next, second)()
		detach()
		release()
		assert.Equal(t, http.StatusOK, <-answers)
		assert.Empty(t, first.stored)
		assert.Len(t, second.stored, 1)
	})
}

// Medium bodies have turns of their own, for which small ones do not wait.
func TestMediumBodiesAreParsedInTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := receiver(t)
		s := new(notingInbox)
		defer attach(t, h, s)()
		require.True(t, h.bodies.medium.TryAcquire(parsedAtOnce()))
		answers := make(chan int, 1)
		go func() { answers <- post(t.Context(), h, sizedCallback("medium", mediumBody)).status }()
		synctest.Wait()
		require.Equal(t, http.StatusOK, post(t.Context(), h, largeCallback("large")).status)
		require.Equal(t, http.StatusOK, post(t.Context(), h, sizedCallback("small", mediumBody/2)).status)
		require.Empty(t, answers)
		h.bodies.medium.Release(parsedAtOnce())
		require.Equal(t, http.StatusOK, <-answers)
		require.True(t, h.bodies.medium.TryAcquire(parsedAtOnce()), "turns are given back")
	})
}

package fotorwebhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// slowInbox does not store events in time, and looks at them again later.
type slowInbox struct {
	inbox.Inbox
	events []*inbox.Event
}

func (s *slowInbox) Open(context.Context, string, inbox.Policy, *zap.Logger) (inbox.Inbox, error) {
	return s, nil
}

func (*slowInbox) Apply(inbox.Inbox, inbox.Policy) {}

func (s *slowInbox) Put(_ context.Context, e *inbox.Event) (duplicateOf string, err error) {
	if e.MakeFormerID == nil {
		return "", nil
	}
	s.events = append(s.events, e)
	return "", errors.New("too slow")
}

func (*slowInbox) Stats(context.Context) (inbox.Stats, error) { return inbox.Stats{}, nil }

func (*slowInbox) List(context.Context, inbox.Filter, inbox.Page) ([]*inbox.Record, string, error) {
	return nil, "", nil
}

func (*slowInbox) ShouldEmit(string) bool { return false }

func (*slowInbox) Emit(string, map[string]any) {}

func (*slowInbox) Close() error { return nil }

// An inbox that gave up an event may still make its former id when other callbacks have
// come: they do not use the memory of the first one.
func TestCallbackThatWasNotStoredKeepsItsMemory(t *testing.T) {
	h, _ := receiver(t)
	s := new(slowInbox)
	att, err := gateway.Attach(t.Context(), &gateway.Config{Name: t.Name(), Key: t.Name(), Storage: s, Events: s, Logger: h.logger}, h.gateway)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, att.Release()) })
	t.Cleanup(func() { att.Detach() })

	send := func(task, more string) int {
		body := fmt.Sprintf(`{"taskId":%q,"status":1,"type":"avatar"%s}`, task, more)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		return h.receive(httptest.NewRecorder(), fromAddress(r, "192.0.2.1"), time.Now()).status
	}
	for i := range 20 {
		require.Equal(t, http.StatusServiceUnavailable, send(fmt.Sprint("task", i), `,"resultUrl":""`))
		require.Equal(t, http.StatusOK, send(fmt.Sprint("next", i), ""))
	}
	require.Len(t, s.events, 20)
	for i, e := range s.events {
		task := fmt.Sprint("task", i)
		require.Equal(t, inbox.NewID(task, fmt.Appendf(nil, `{"resultUrl":"","status":1,"taskId":%q,"type":"avatar"}`, task)), e.MakeFormerID())
	}
}

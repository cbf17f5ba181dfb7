package dashboard

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// However many pages are open, only so many are told: the others ask now and then.
func TestStreamsAreBounded(t *testing.T) {
	s := newSite(&Handler{stopped: t.Context(), logger: zap.NewNop()})
	open := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder() // it has no deadlines, so a stream ends at once
		require.NoError(t, s.serve(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/live", nil)))
		return w
	}
	living.Add(maxLive - 1)
	t.Cleanup(func() { living.Store(0) })
	for range 2 { // one that has ended is not counted
		w := open()
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, control.MediaEvents, w.Header().Get("Content-Type"))
	}
	living.Add(1)
	for range 2 { // nor one that was refused
		w := open()
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Equal(t, "60", w.Header().Get("Retry-After"))
		require.Equal(t, int64(maxLive), living.Load())
	}
}

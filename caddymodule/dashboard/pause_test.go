package dashboard

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhatTakesLongIsLookedAtLessOften(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0: 2 * time.Second, 10 * time.Millisecond: 2 * time.Second, 20 * time.Millisecond: 4 * time.Second, time.Minute: 10 * time.Second,
	} {
		require.Equal(t, want, pause(took), "%s", took)
	}
	w := httptest.NewRecorder()
	require.NoError(t, newSite(&Handler{}).serve(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)))
	require.Regexp(t, `^\d{4,5}$`, w.Header().Get("Dashboard-Pause"))
}

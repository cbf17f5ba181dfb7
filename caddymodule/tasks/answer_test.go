package tasks

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/metrics"
)

// newAnswer returns an answer that is written to a recorder.
func newAnswer(t *testing.T) (*answer, *httptest.ResponseRecorder) {
	h := &Handler{Name: "default", logger: zap.NewNop(), learnt: metrics.LearntFor("default"), storeTimeout: storeTimeout, linger: linger}
	t.Cleanup(h.learnt.Release)
	x, asking := h.begin(t.Context())
	require.True(t, asking)
	t.Cleanup(x.end)
	w := httptest.NewRecorder()
	return &answer{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, exchange: x}, w
}

// Handlers other than reverse_proxy read an answer from somewhere.
func TestAnswersThatAreReadFromSomewhere(t *testing.T) {
	for name, c := range map[string]struct {
		media         string
		before, after int // what is written before, and read then
		held          bool
	}{
		"held":                 {"application/json", 10, 20, true},
		"held to the end":      {"application/json", 10, maxAnswer - 10, true},
		"too long by a byte":   {"application/json", 10, maxAnswer - 9, false},
		"too long from itself": {"application/json", 0, 3 * maxAnswer, false},
		"other":                {"text/plain", 0, 3 * maxAnswer, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, w := newAnswer(t)
			a.Header().Set("Content-Type", c.media)
			if c.before > 0 {
				n, err := io.WriteString(a, strings.Repeat("a", c.before))
				require.NoError(t, err)
				require.Equal(t, c.before, n)
			}
			n, err := a.ReadFrom(strings.NewReader(strings.Repeat("b", c.after)))
			require.NoError(t, err)
			require.EqualValues(t, c.after, n)
			want := strings.Repeat("a", c.before) + strings.Repeat("b", c.after)
			if c.held {
				require.Empty(t, w.Body.String())
			} else {
				require.Equal(t, want, w.Body.String())
			}
			a.finish()
			require.Equal(t, want, w.Body.String())
			require.Equal(t, http.StatusOK, w.Code)
		})
	}
}

func TestTheFirstStatusCounts(t *testing.T) {
	a, w := newAnswer(t)
	a.Header().Set("Content-Type", "application/json")
	a.WriteHeader(http.StatusCreated)
	a.WriteHeader(http.StatusInternalServerError)
	a.Header().Set("Content-Type", "text/plain")
	a.Header().Del("Content-Type")
	a.Header().Set("X-Late", "1")
	a.finish()
	a.brokenOff()
	require.Equal(t, http.StatusCreated, w.Code)
	require.Equal(t, http.Header{"Content-Type": {"application/json"}}, w.Result().Header) //nolint:bodyclose // it has none
}

// A flush of what nothing was written of sends the header, as without fotor_tasks.
func TestFlushBeforeAnything(t *testing.T) {
	a, w := newAnswer(t)
	require.NoError(t, http.NewResponseController(a).Flush())
	require.True(t, w.Flushed)
	a.finish()
	require.Equal(t, http.StatusOK, w.Code)
}

func TestAnAnswerThatIsNone(t *testing.T) {
	a, w := newAnswer(t)
	a.finish()
	a.brokenOff()
	require.Equal(t, undecided, a.state)
	require.False(t, w.Flushed)
}

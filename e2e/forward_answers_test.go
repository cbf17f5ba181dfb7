package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// However often the routes read the body of an event, they get all of it.
func TestForwardBlockUsesTheBodyAgain(t *testing.T) {
	for name, forward := range map[string]string{
		"lb_retry_match": "reverse_proxy %s %s {\nlb_policy first\nlb_retries 3\nlb_retry_match expression `{rp.status_code} == 503`\n" +
			"fail_duration 1m\nmax_fails 1\nunhealthy_status 503\n}",
		"handle_response": "reverse_proxy %s {\n@bad status 503\nhandle_response @bad {\nreverse_proxy %s\n}\n}",
		"in a subroute":   "route {\nreverse_proxy %s {\n@bad status 503\nhandle_response @bad {\nrewrite /again\nreverse_proxy %s\n}\n}\n}",
	} {
		t.Run(name, func(t *testing.T) {
			bad, good := newUpstream(t, status(http.StatusServiceUnavailable)), newUpstream(t, nil)
			g := newGateway(t)
			g.Start("forward {\n"+fmt.Sprintf(forward, strings.TrimPrefix(bad.URL, "http://"), strings.TrimPrefix(good.URL, "http://"))+"\n}", "", quiet)
			bodies := []string{notice("small", 1), fmt.Sprintf(`{"taskId":"large","status":1,"type":"text2img","x":%q}`, strings.Repeat("x", 300_000))}
			for i, body := range bodies {
				g.Accept(body)
				g.delivered(i + 1)
			}
			require.Len(t, good.Deliveries(), len(bodies), "both arrived whole")
			for _, d := range good.Deliveries() {
				assert.Equal(t, "1", d.Header.Get("Fotor-Webhook-Attempt"), "it was one attempt")
			}
			assert.NotEmpty(t, bad.Deliveries())
		})
	}
}

// A handler in the routes may ask for a pause, as rate_limit does: it sets the header and
// returns an error.
func TestForwardBlockRetryAfterOfAnError(t *testing.T) {
	for _, code := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		g := newGateway(t)
		g.Start(fmt.Sprintf("forward {\nheader Retry-After 77\nerror \"too many\" %d\n}", code), "", quiet)
		g.Accept(notice("task", 1))
		var holds []control.Hold
		await(t, func() bool {
			holds = ask[control.Handler](g, http.MethodGet, "default", "").Holds
			return len(holds) == 1
		}, "a hold after %d", code)
		assert.Contains(t, holds[0].Reason, fmt.Sprintf("answered %d with Retry-After 1m17s", code))
		require.NotNil(t, holds[0].Until)
		assert.GreaterOrEqual(t, holds[0].Until.Sub(holds[0].Since), time.Minute)
		g.Stop()
	}
}

// A 2xx counts even if its body never ends.
func TestEndlessAnswerIsADelivery(t *testing.T) {
	for name, piece := range map[string]struct {
		bytes int
		pause time.Duration
	}{
		"flood": {32 << 10, 0}, "trickle": {1, 10 * time.Millisecond}, "silence": {0, 10 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			forwards(t, func(t *testing.T, forward func(string) string) {
				up := newUpstream(t, func(w http.ResponseWriter, _ delivery) {
					w.WriteHeader(http.StatusOK)
					for t.Context().Err() == nil {
						if _, err := w.Write(make([]byte, piece.bytes)); err != nil || http.NewResponseController(w).Flush() != nil {
							return
						}
						time.Sleep(piece.pause)
					}
				})
				g := newGateway(t)
				g.Start(forward(up.URL)+"\ntimeout 1s"+quick, "", quiet)
				g.Accept(notice("task", 1))
				g.delivered(1)
				assert.Len(t, up.Deliveries(), 1)
				g.Stop()
			})
		})
	}
}

func TestReasonOfAnAnswerThatIsNone(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter, d delivery)
		reason string
	}{
		"101": {func(w http.ResponseWriter, _ delivery) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = c.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"))
				_ = c.SetReadDeadline(time.Now().Add(patience))
				_, _ = c.Read(make([]byte, 1))
				_ = c.Close()
			}
		}, "HTTP 101: the upstream switched protocols; expected an answer"},
		"redirect": {func(w http.ResponseWriter, _ delivery) {
			w.Header().Set("Location", "https://who:secret@other.example/new path?token=secret#secret")
			w.WriteHeader(http.StatusFound)
			_, _ = w.Write([]byte("<a href='https://other.example/?token=secret'>Found</a>"))
		}, "HTTP 302: a redirect to https://other.example/new%20path?…, which is not followed"},
	} {
		t.Run(name, func(t *testing.T) {
			forwards(t, func(t *testing.T, forward func(string) string) {
				up := newUpstream(t, test.answer)
				g := newGateway(t)
				g.Start(forward(up.URL), "", quiet)
				g.Accept(notice("task", 1))
				var events []control.Event
				await(t, func() bool {
					events = g.list(url.Values{})
					return len(events) == 1 && events[0].LastAttempt != nil ||
						len(ask[control.Handler](g, http.MethodGet, "default", "").Holds) > 0
				}, "a failed attempt")
				var reason string
				if events[0].LastAttempt != nil {
					reason = events[0].LastAttempt.Reason
				} else {
					reason = ask[control.Handler](g, http.MethodGet, "default", "").Holds[0].Reason
				}
				assert.Contains(t, reason, test.reason)
				g.Stop()
			})
		})
	}
}

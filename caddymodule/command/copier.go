package command

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/signature"
)

// maxCopyAnswer bounds how much of an answer to a copy is read, as for a delivery.
const maxCopyAnswer = 64 << 10

// copier sends copies of events to a URL.
type copier struct {
	*session
	path        []string // of the handler's events
	destination string
	to          *outgoing
	shown       string // the URL, without a password
	secrets     [][]byte
	http        *http.Client

	trouble  string // why the URL did not answer to the last copy; "" if it did
	failure  string // why the last copy could not be made; "" if it could
	answers  map[int]int64
	unheard  int64 // copies without an answer
	failures int64 // copies that could not be made
}

func newCopier(s *session, handler string, plan *listenPlan) *copier {
	return &copier{
		session: s, path: []string{handler, "events"}, destination: plan.destination,
		to: plan.to, shown: withoutUser(plan.to.url), secrets: plan.secrets,
		http: plan.to.client(s.transport, 1), answers: make(map[int]int64),
	}
}

// copied is what became of a copy: the member "copy" of --json.
type copied struct {
	HTTPStatus int     `json:"httpStatus"`      // 0 if there was no answer
	Error      string  `json:"error,omitempty"` // why there was none
	DurationMS float64 `json:"durationMs"`

	took time.Duration
	sent bool
}

func (r *copied) text(p printer) string {
	switch {
	case r.HTTPStatus > 0:
		return p.paint(strconv.Itoa(r.HTTPStatus), acceptedColor(r.HTTPStatus/100 == 2)) + " in " + latency(r.took)
	case r.sent:
		return p.paint("no answer", text.FgRed) + " in " + latency(r.took)
	default:
		return p.paint("not copied", text.FgRed)
	}
}

// copy sends a copy of an event. It reports false if the event does not go to the
// destination, or if the context has ended.
func (c *copier) copy(ctx context.Context, id string) (r *copied, fits bool) {
	header, body, err := c.make(ctx, id)
	switch status, refused := errors.AsType[*statusError](err); {
	case ctx.Err() != nil, refused && status.status == http.StatusConflict:
		return nil, false
	case err != nil:
		r = &copied{Error: "not copied: " + err.Error()}
		c.failures++
		if c.failure != err.Error() {
			c.note("Events are not copied: %v.", err)
		}
		c.failure = err.Error()
		return r, true
	}
	c.failure = ""
	begun := c.now()
	r = &copied{sent: true}
	r.HTTPStatus, err = c.post(ctx, header, body)
	if ctx.Err() != nil {
		return nil, false
	}
	r.took = c.now().Sub(begun)
	r.DurationMS = control.Milliseconds(r.took)
	if err != nil {
		r.Error = noAnswer(err)
	}
	c.count(r)
	return r, true
}

// make asks the gateway for the request that has the event.
func (c *copier) make(ctx context.Context, id string) (header map[string]string, body []byte, err error) {
	r := call{method: http.MethodPost, path: append(slices.Clone(c.path), id, "copy")}
	if c.destination != "" {
		r.query = url.Values{flagDestination: {c.destination}}
	}
	answer, err := persistently[control.Copy](ctx, c.session, r)
	if err != nil {
		return nil, nil, err
	}
	body = []byte(answer.Body)
	if answer.BodyEncoding == control.BodyBase64 {
		if body, err = base64.StdEncoding.DecodeString(answer.Body); err != nil {
			return nil, nil, fmt.Errorf("the body of event %s: %w", quoted(id), err)
		}
	}
	header = answer.Header
	if len(c.secrets) > 0 {
		header["Webhook-Signature"] = signature.Make(c.secrets, header["Webhook-Id"], header["Webhook-Timestamp"], body)
	}
	return header, body, nil
}

// post sends a copy, and returns the status of the answer.
func (c *copier) post(ctx context.Context, header map[string]string, body []byte) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.to.url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	c.to.complete(req)
	resp, err := c.http.Do(req) //nolint:gosec // the user says where to send
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxCopyAnswer)); err != nil {
		return 0, fmt.Errorf("HTTP %d, but its body broke off: %w", resp.StatusCode, err)
	}
	return resp.StatusCode, nil
}

// count counts an answer. It says when the URL does not answer any more, and when it does
// again.
func (c *copier) count(r *copied) {
	if r.Error == "" {
		c.answers[r.HTTPStatus]++
		if c.trouble != "" {
			c.note("%s answers again.", c.shown)
		}
	} else {
		c.unheard++
		if c.trouble != r.Error {
			c.note("%s does not answer: %s. What it misses is not sent again.", c.shown, r.Error)
		}
	}
	c.trouble = r.Error
}

// counts describes what became of all copies.
func (c *copier) counts() (parts []string) {
	for _, status := range slices.Sorted(maps.Keys(c.answers)) {
		parts = append(parts, count(c.answers[status])+" answered "+strconv.Itoa(status))
	}
	if c.unheard > 0 {
		parts = append(parts, count(c.unheard)+" without an answer")
	}
	if c.failures > 0 {
		parts = append(parts, count(c.failures)+" not made")
	}
	return parts
}

// persistently makes a request again while Caddy cannot be reached, as during a restart,
// or for some time while it answers with an error or does not have what is asked for: what
// was accepted at one Caddy can be missing at a replica for a moment.
func persistently[T any](ctx context.Context, s *session, c call) (answer T, err error) {
	for tries := 1; ; tries++ {
		answer, _, err = get[T](ctx, s.client, c)
		if err == nil || tries >= triesAfter(err) {
			return answer, err
		}
		if ended := s.environment.pause(ctx, min(200*time.Millisecond<<min(tries-1, 10), maxPause/3)); ended != nil {
			return answer, ended
		}
	}
}

// triesAfter returns how often to ask in all if that was the error.
func triesAfter(err error) int {
	var status *statusError
	var away *unreachableError
	switch {
	case errors.As(err, &away):
		return 1 << 30
	case !errors.As(err, &status), status.status >= http.StatusInternalServerError:
		return 8
	case status.status == http.StatusNotFound:
		return 4
	}
	return 1
}

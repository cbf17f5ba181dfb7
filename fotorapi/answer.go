package fotorapi

import (
	"bytes"
	"context"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/retryafter"
)

// maxErrorAnswer is the most bytes of an answer that are read if its status says enough.
const maxErrorAnswer = 16 << 10

// ask asks a question when the budget allows it, and has its answer read. With heed, nothing
// is asked if the key was refused meanwhile; without, a good answer ends that.
func (c *Client) ask(ctx context.Context, heed bool, path string, read func(*received) error) (err error) {
	done, err := c.budget.Wait(ctx)
	if err != nil {
		return fmt.Errorf("waiting until Fotor may be asked: %w", err)
	}
	defer func() { done(err) }()
	if refused := c.refused.Load(); heed && refused != nil {
		return refused
	}
	got, err := c.get(ctx, path)
	if err == nil {
		err = read(got)
	}
	switch {
	case KindOf(err) == Unauthorized:
		c.refused.Store(err.(*Error)) //nolint:errorlint // get and read do not wrap it
	case err == nil && !heed: // an answer to Task may be older than the refusal
		c.refused.Store(nil)
	}
	return err
}

// received is an answer as it arrived.
type received struct {
	client *Client
	status int
	header http.Header
	body   []byte
	took   time.Duration
}

// get makes a request and reads the answer. Its errors are those of Task.
func (c *Client) get(ctx context.Context, path string) (*received, error) {
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodGet, c.base+path, http.NoBody)
	if err != nil {
		return nil, &Error{Kind: Unavailable, reason: "the request cannot be made: " + c.readable(err.Error())}
	}
	req.Header = http.Header{
		"Accept":          {"application/json"},
		"Accept-Encoding": {"identity"}, // so that no answer unpacks to a huge one
		"Authorization":   {"Bearer " + c.key},
		"Content-Type":    {"application/json"}, // as Fotor's documentation has it
		"User-Agent":      {"caddy-fotor-webhook"},
	}
	got := &received{client: c}
	begun := time.Now()
	// not with http.Client: it would follow redirects, and wraps errors with the URL
	resp, err := c.transport.RoundTrip(req)
	if err == nil {
		defer resp.Body.Close()
		got.status, got.header = resp.StatusCode, resp.Header
		err = got.read(resp)
	}
	got.took = time.Since(begun)
	switch {
	case err == nil:
		return got, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("asking Fotor: %w", ctx.Err())
	case limited.Err() != nil && got.status == 0:
		return nil, got.error(Unavailable, "there was no answer within %s", c.timeout)
	case limited.Err() != nil:
		return nil, got.error(Unavailable, "the answer was not complete within %s", c.timeout)
	case got.status == 0:
		return nil, got.error(Unavailable, "there was no answer: %s", c.readable(err.Error()))
	default:
		return nil, got.error(Unavailable, "the answer broke off: %s", c.readable(err.Error()))
	}
}

// read reads as much of an answer as counts, and one byte more of an answer that is too long.
func (g *received) read(resp *http.Response) (err error) {
	switch {
	case g.status == http.StatusOK:
		g.body, err = io.ReadAll(io.LimitReader(resp.Body, MaxAnswer+1))
	case g.status >= 400:
		// it only adds to what the status says
		g.body, _ = io.ReadAll(io.LimitReader(resp.Body, maxErrorAnswer))
	}
	return err
}

// error makes an error about the answer.
func (g *received) error(kind Kind, format string, args ...any) *Error {
	e := &Error{Kind: kind, Status: g.status, Took: g.took, reason: "asking Fotor: " + fmt.Sprintf(format, args...)}
	if g.header != nil {
		e.RetryAfter = min(retryafter.Of(g.header, time.Now()), MaxRetryAfter)
	}
	return e
}

// envelope is what Fotor's answers have in common.
type envelope struct {
	Code jsontext.Value `json:"code"`
	Msg  jsontext.Value `json:"msg"`
	Data jsontext.Value `json:"data"`
}

// codeSuccess is the code of an answer that has what was asked for.
const codeSuccess = "000"

// data returns what the answer has, a JSON value that may be nil, or why it has nothing.
func (g *received) data() (jsontext.Value, *Error) {
	if g.status != http.StatusOK {
		return nil, g.refusal()
	}
	encoding := g.header.Get("Content-Encoding")
	switch {
	case encoding != "" && !strings.EqualFold(encoding, "identity"):
		return nil, g.error(Unusable, "the answer has the content encoding \"%s\": expected none", g.client.readable(encoding))
	case len(g.body) > MaxAnswer:
		return nil, g.error(Unusable, "the answer is longer than %d bytes", MaxAnswer)
	}
	var e envelope
	if err := json.Unmarshal(g.body, &e); err != nil {
		return nil, g.error(Unusable, "the answer is not JSON of Fotor's API%s", place(err))
	}
	if code := scalar(e.Code); code != codeSuccess {
		refused := g.error(NotKnown, "the answer has the code \"%s\"%s: expected \"%s\"", g.client.readable(code), g.message(e), codeSuccess)
		refused.Code = g.client.readable(code)
		return nil, refused
	}
	return e.Data, nil
}

// refusal is the error for an answer with another status than 200.
func (g *received) refusal() *Error {
	var e envelope
	said := ""
	if json.Unmarshal(g.body, &e) == nil {
		said = g.message(e)
	}
	var refused *Error
	switch status := g.status; {
	case status == http.StatusUnauthorized:
		refused = g.error(Unauthorized, "Fotor refuses the key (HTTP 401): expected the API key of an account that may use this API")
	case status == http.StatusTooManyRequests:
		refused = g.error(TooOften, "too many questions (HTTP 429)%s", said)
	case status == http.StatusBadRequest, status == http.StatusNotFound, status == http.StatusGone:
		refused = g.error(NotKnown, "the answer is HTTP %d%s", status, said)
	case status >= 300 && status <= 399:
		refused = g.error(Unavailable, "the answer is a redirect (HTTP %d)%s, which is not followed: expected an answer of Fotor's API", status, g.target())
	default:
		refused = g.error(Unavailable, "the answer is HTTP %d%s: expected 200", status, said)
	}
	refused.Code = g.client.readable(scalar(e.Code))
	return refused
}

// message returns Fotor's message, to go on with in a sentence.
func (g *received) message(e envelope) string {
	text := g.client.readable(scalar(e.Msg))
	if text == "" {
		return ""
	}
	return fmt.Sprintf(" (%s)", text)
}

// target returns the host that a redirect leads to, to go on with in a sentence.
func (g *received) target() string {
	to, err := url.Parse(g.header.Get("Location"))
	if err != nil || to.Host == "" {
		return ""
	}
	return " to the host " + g.client.readable(to.Host)
}

// place says where JSON is broken, to go on with in a sentence. The error's own text may have
// any part of the JSON.
func place(err error) string {
	if broken, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return fmt.Sprintf(" (byte %d)", broken.ByteOffset+1)
	}
	return ""
}

// scalar returns the text of a JSON string or number, "" for anything else.
func scalar(value jsontext.Value) string {
	switch value.Kind() {
	case '"':
		var text string
		if json.Unmarshal(value, &text) == nil {
			return text
		}
	case '0':
		return string(value)
	default:
	}
	return ""
}

// isNothing reports whether a value is absent or empty.
func isNothing(value jsontext.Value) bool {
	switch value.Kind() {
	case '{', '[':
		return len(bytes.TrimSpace(value[1:len(value)-1])) == 0
	case '"':
		return len(value) == 2
	case 'n':
		return true
	default:
		return value == nil
	}
}

// task returns the task's object.
func (g *received) task(id string) (stdjson.RawMessage, error) {
	data, failed := g.data()
	switch {
	case failed != nil:
		return nil, failed
	case isNothing(data):
		return nil, g.error(NotKnown, "the answer has no data of the task")
	}
	var task struct {
		TaskID jsontext.Value `json:"taskId"`
	}
	if err := json.Unmarshal(data, &task); err != nil {
		return nil, g.error(Unusable, "the answer's data is not a task: expected a JSON object")
	}
	switch {
	case isNothing(task.TaskID):
		return nil, g.error(NotKnown, "the answer's data has no taskId")
	case task.TaskID.Kind() != '"':
		return nil, g.error(Unusable, "the answer's taskId is not a string")
	case scalar(task.TaskID) != id:
		return nil, g.error(OtherTask, "the answer is about the task \"%s\", which was not asked for", g.client.readable(scalar(task.TaskID)))
	}
	return stdjson.RawMessage(data), nil
}

// credits returns what the account has left.
func (g *received) credits() (Credits, error) {
	data, failed := g.data()
	var credits Credits
	switch {
	case failed != nil && failed.Kind == NotKnown: // there is no task
		failed.Kind = Unavailable
		return credits, failed
	case failed != nil:
		return credits, failed
	case isNothing(data):
		return credits, g.error(Unusable, "the answer has no credits")
	}
	if err := stdjson.Unmarshal(data, &credits); err != nil {
		return Credits{}, g.error(Unusable, "the answer's data is not credits: expected an object with businessId, total and remaining")
	}
	return credits, nil
}

package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

const (
	// maxAnswer bounds an answer that is read as a whole. A page of a thousand events
	// of the largest size is far smaller.
	maxAnswer = 512 << 20

	// maxError bounds an error's text.
	maxError = 1 << 20

	dialTimeout = 10 * time.Second
)

// client makes requests to Caddy's admin endpoint. It replaces caddycmd.AdminAPIRequest,
// which takes no context and does not return the status.
type client struct {
	address string // as given
	origin  string // scheme and host of the requests
	tcp     bool
	http    *http.Client

	// now is the clock of this machine, and ahead how far the server's is ahead of it, a
	// time.Duration; 0 if they are about the same, or before the first answer.
	now   func() time.Time
	ahead atomic.Int64
}

func newClient(address string, transport http.RoundTripper) (*client, error) {
	parsed, err := parseAdmin(address)
	if err != nil {
		return nil, err
	}
	c := &client{address: address, tcp: true, origin: "http://" + parsed.JoinHostPort(0)}
	if parsed.IsUnixNetwork() {
		// net/http requires a host; it is not used
		c.tcp, c.origin = false, "http://127.0.0.1"
	}
	if transport == nil {
		dialer := &net.Dialer{Timeout: dialTimeout}
		transport = &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, parsed.Network, parsed.JoinHostPort(0))
			},
		}
	}
	c.http = &http.Client{Transport: transport}
	return c, nil
}

// statusError is an answer of the admin endpoint with a status other than 2xx.
type statusError struct {
	status  int
	address string
	message string
	body    []byte
	foreign bool // not in the form of Caddy's admin endpoint
}

func (e *statusError) Error() string {
	text := quoted(e.message)
	if text == "" {
		text = "no reason given"
	}
	hint := ""
	if e.status == http.StatusNotFound && e.foreign {
		hint = "; does this Caddy have the fotor_webhook module?"
	}
	return fmt.Sprintf("%s (HTTP %d from the admin endpoint at %s)%s", text, e.status, e.address, hint)
}

// unreachableError is returned if the admin endpoint did not answer.
type unreachableError struct {
	address string
	cause   error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("no answer from %s: %v: is Caddy running, and is its admin endpoint at %[1]s? "+
		"--address or --config tell another", e.address, e.cause)
}

func (e *unreachableError) Unwrap() error { return e.cause }

// call is a request to the API.
type call struct {
	method string // GET if empty
	path   []string
	query  url.Values
	header http.Header
	body   any // as JSON, unless nil
}

// open makes a request. An answer other than 2xx is a *statusError.
func (c *client) open(ctx context.Context, r call) (*http.Response, error) {
	req, err := c.request(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req) //nolint:gosec // whoever calls says where the admin endpoint is
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // with a socket file its URL would be misleading
		}
		return nil, &unreachableError{c.address, err}
	}
	c.compareClocks(resp)
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxError))
	if err != nil {
		return nil, fmt.Errorf("HTTP %d from %s, and reading the error: %w", resp.StatusCode, c.address, err)
	}
	failed := &statusError{status: resp.StatusCode, address: c.address, body: body}
	failed.message, failed.foreign = errorText(body)
	return nil, failed
}

// sameClock is how much two clocks may differ that are taken for the same: the header Date
// has whole seconds, and an answer may be on its way for a while.
const sameClock = 3 * time.Second

// compareClocks compares the server's clock, which its answers tell, with this machine's:
// ages would be wrong if the times of one were compared with the other.
func (c *client) compareClocks(resp *http.Response) {
	if c.now == nil {
		return
	}
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return // it does not tell
	}
	ahead := at.Sub(c.now())
	if ahead.Abs() <= sameClock {
		ahead = 0
	}
	c.ahead.Store(int64(ahead))
}

func (c *client) request(ctx context.Context, r call) (*http.Request, error) {
	var body io.Reader
	if r.body != nil {
		encoded, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(encoded)
	}
	parts := make([]string, 0, len(r.path))
	for _, part := range r.path {
		part = url.PathEscape(part)
		if part == "." || part == ".." { // a task may have such an id, but a path has other uses for them
			part = strings.ReplaceAll(part, ".", "%2E")
		}
		parts = append(parts, part)
	}
	target := c.origin + control.Root + strings.Join(parts, "/")
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	method := r.method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if c.tcp {
		req.Header.Set("Origin", c.origin)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	maps.Copy(req.Header, r.header)
	return req, nil
}

// errorText returns the text of an error in Caddy's form, or else the body.
func errorText(body []byte) (text string, foreign bool) {
	var refused control.Refused
	if json.Unmarshal(body, &refused) == nil && refused.Error != "" {
		return refused.Error, false
	}
	return strings.TrimSpace(string(body)), true
}

// ask makes a request and returns the whole answer.
func (c *client) ask(ctx context.Context, r call) (json.RawMessage, error) {
	resp, err := c.open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the answer of %s broke off: %w", c.address, err)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("the answer of %s is longer than %s", c.address, size(maxAnswer))
	}
	return body, nil
}

// get makes a request and returns the answer, both decoded and as it arrived.
func get[T any](ctx context.Context, c *client, r call) (answer T, raw json.RawMessage, err error) {
	if raw, err = c.ask(ctx, r); err != nil {
		return answer, nil, err
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return answer, nil, fmt.Errorf("the answer of %s is not what this version expects: %w", c.address, err)
	}
	return answer, raw, nil
}

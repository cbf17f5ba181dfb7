// Package fotorapi asks Fotor's task API what became of a task. It knows neither Caddy nor
// an inbox: whoever asks decides when, and what to do with the answer.
//
// Read the files in this order:
//   - client.go: the client, and its questions
//   - taskid.go: which tasks can be asked for
//   - answer.go: from an HTTP answer to a task's data or an error
//   - errors.go: the kinds of errors, and that none shows the key
//   - budget.go: how many questions a second; budgets.go: clients that share that
//
// Its subpackage mock plays Fotor.
package fotorapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Defaults of Config.
const (
	DefaultURL     = "https://api-b.fotor.com"
	DefaultRate    = 2.0
	DefaultTimeout = 10 * time.Second
)

// MaxAnswer is the most bytes of an answer that are read.
const MaxAnswer = 1 << 20

// Config is how to ask.
type Config struct {
	// URL is where the API is: http or https, a host, perhaps a path, and nothing else.
	// Default: DefaultURL.
	URL string

	// Key is the API key, of 1 to 4096 visible ASCII characters. It is sent to URL only,
	// and never shown.
	Key string

	// Transport makes the requests. It must be safe for concurrent use, and not follow
	// redirects. Default: http.DefaultTransport.
	Transport http.RoundTripper

	// Timeout is how long a question may take, from the request to the last byte of the
	// answer; waiting for the budget does not count. Default: DefaultTimeout.
	Timeout time.Duration

	// Budget is what every question waits for. Clients of one account should share it, see
	// Budgets. Default: a budget of its own with DefaultRate.
	Budget Budget
}

// Client asks. It is safe for concurrent use.
//
// After Fotor has refused the key (HTTP 401) Task asks nothing more: it returns that error at
// once, until Check finds the key accepted or a config with another client is loaded.
//
// The client asks each question once; whether and when to ask again is for the caller to
// decide. Only net/http itself repeats a request, on a new connection, when an idle one turns
// out to be closed.
type Client struct {
	base      string
	key       string
	spellings []string // of the key, in texts
	transport http.RoundTripper
	timeout   time.Duration
	budget    Budget
	refused   atomic.Pointer[Error] // the key was refused; nil: not yet
}

// New returns a client. Its errors name what is wrong with the config, without the key.
func New(c Config) (*Client, error) {
	if c.URL == "" {
		c.URL = DefaultURL
	}
	base, err := parseBase(c.URL)
	if err != nil {
		return nil, err
	}
	if err := checkKey(c.Key); err != nil {
		return nil, err
	}
	if c.Timeout < 0 {
		return nil, fmt.Errorf("the timeout is %s: expected more than 0, such as 10s", c.Timeout)
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	if c.Budget == nil {
		c.Budget = NewAdaptive(DefaultRate)
	}
	return &Client{base: base, key: c.Key, spellings: spellings(c.Key), transport: c.Transport, timeout: c.Timeout, budget: c.Budget}, nil
}

// parseBase checks the API's URL, and returns it without a slash at its end.
func parseBase(raw string) (string, error) {
	const expected = "expected http or https and a host, such as " + DefaultURL
	u, err := url.Parse(raw)
	switch {
	case err != nil: // its text may show a password
		return "", errors.New("the url of Fotor's API is no URL: " + expected)
	case u.User != nil:
		return "", errors.New("the url of Fotor's API has a user or password: " + expected)
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "", fmt.Errorf("the url of Fotor's API is %q: %s", bounded(raw), expected)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "":
		return "", fmt.Errorf("the url of Fotor's API has a query or fragment, %q: %s", bounded(raw), expected)
	}
	return strings.ToLower(u.Scheme+"://"+u.Host) + strings.TrimRight(u.EscapedPath(), "/"), nil
}

const maxKey = 4096

// checkKey makes sure that a key can stand in a header. What is wrong with it is told without
// any of its characters.
func checkKey(key string) error {
	const expected = "expected 1 to 4096 visible ASCII characters in one line"
	if key == "" {
		return errors.New("the key of Fotor's API is empty: " + expected)
	}
	if len(key) > maxKey {
		return fmt.Errorf("the key of Fotor's API has %d bytes: %s", len(key), expected)
	}
	for i, c := range []byte(key) {
		var what string
		switch {
		case c == '\n' || c == '\r':
			what = "a line break"
		case c == ' ' || c == '\t':
			what = "a space or tab"
		case c < ' ' || c == 0x7f:
			what = "a control character"
		case c > 0x7f:
			what = "a character that is not ASCII"
		default:
			continue
		}
		return fmt.Errorf("the key of Fotor's API has %s as byte %d of %d: %s", what, i+1, len(key), expected)
	}
	return nil
}

// Account returns what stands for the account of a URL and a key: the same for the same two
// and, as it is a hash, without either. Clients with the same account share Fotor's limits.
func (c *Client) Account() string { return account(c.base, c.key) }

// AccountOf returns what Account of a client with that URL and key would return, before there
// is one.
func AccountOf(rawURL, key string) (string, error) {
	if rawURL == "" {
		rawURL = DefaultURL
	}
	base, err := parseBase(rawURL)
	if err != nil {
		return "", err
	}
	return account(base, key), nil
}

func account(base, key string) string {
	sum := sha256.Sum256([]byte(base + "\n" + key))
	return hex.EncodeToString(sum[:16])
}

// Rate returns the questions a second that the budget allows now.
func (c *Client) Rate() float64 { return c.budget.Rate() }

// Refused reports whether Fotor has refused the key, so that Task asks nothing.
func (c *Client) Refused() bool { return c.refused.Load() != nil }

// Answer is what Fotor says of a task.
type Answer struct {
	// Data is the object of the task as it arrived: what callback.Parse is given. Its taskId
	// is that of the question; nothing else about it is checked.
	Data json.RawMessage

	// Took is how long the question took, without waiting for the budget.
	Took time.Duration
}

// Task waits until the budget allows a question, and asks what became of a task. The error
// is an *Error, or wraps the context's error if that ended first.
func (c *Client) Task(ctx context.Context, taskID string) (Answer, error) {
	if err := checkTaskID(taskID); err != nil {
		return Answer{}, err
	}
	if refused := c.refused.Load(); refused != nil {
		return Answer{}, refused
	}
	var answer Answer
	err := c.ask(ctx, true, "/v1/aiart/tasks/"+escapeSegment(taskID), func(got *received) error {
		data, err := got.task(taskID)
		answer = Answer{Data: data, Took: got.took}
		return err
	})
	if err != nil {
		return Answer{}, err
	}
	return answer, nil
}

// Credits is what an account has left.
type Credits struct {
	BusinessID string      `json:"businessId"`
	Total      json.Number `json:"total"`
	Remaining  json.Number `json:"remaining"`
}

// Check tries the key with a question that changes nothing and costs nothing, GET /v1/credits.
// It waits for the budget as Task does, and has the same errors. It asks even after the key
// was refused; if it is accepted now, Task asks again.
func (c *Client) Check(ctx context.Context) (Credits, error) {
	var credits Credits
	err := c.ask(ctx, false, "/v1/credits", func(got *received) (err error) {
		credits, err = got.credits()
		return err
	})
	if err != nil {
		return Credits{}, err
	}
	return credits, nil
}

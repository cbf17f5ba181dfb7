package admin

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/go-json-experiment/json"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/query"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 16 << 10

// params are a request's parameters.
type params struct{ *query.Params }

// params returns the request's parameters. An unknown one is an error.
func (c *call) params(known ...string) params {
	return params{query.New(c.r.URL.RawQuery, known...)}
}

// failure returns the first fault as an answer; nil if there is none.
func (p params) failure() error {
	if err := p.Err(); err != nil {
		return failure(http.StatusBadRequest, err)
	}
	return nil
}

// body reads a request's JSON body into v. The body may be empty.
func (c *call) body(v any) error { return c.bodyUpTo(maxBody, v) }

// bodyUpTo is body with another bound, in bytes.
func (c *call) bodyUpTo(bound int64, v any) error {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, bound))
	if err != nil {
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return failure(http.StatusBadRequest, fmt.Errorf("the body is larger than %d bytes", tooLarge.Limit))
		}
		return failure(http.StatusBadRequest, fmt.Errorf("reading the body: %w", err))
	}
	if len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, v, json.RejectUnknownMembers(true)); err != nil {
		return failure(http.StatusBadRequest, fmt.Errorf("the body: %w", err))
	}
	return nil
}

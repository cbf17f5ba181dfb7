// Package dryrun prepares requests that nobody has sent, to learn what Caddy makes of
// them.
package dryrun

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Prepare prepares a request as the server would, and returns it with a writer that
// discards the answer.
func Prepare(r *http.Request, server *caddyhttp.Server) (http.ResponseWriter, *http.Request) {
	w := make(discard)
	return w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, server)
}

// discard is an http.ResponseWriter that keeps only the headers.
type discard http.Header

// Header implements http.ResponseWriter.
func (w discard) Header() http.Header { return http.Header(w) }

// Write implements http.ResponseWriter.
func (discard) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader implements http.ResponseWriter.
func (discard) WriteHeader(int) {}

// Interface guard
var _ http.ResponseWriter = discard(nil)

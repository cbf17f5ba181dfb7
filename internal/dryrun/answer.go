package dryrun

import (
	"bytes"
	"net/http"
	"time"
)

// Answer is an http.ResponseWriter that keeps the answer.
type Answer struct {
	Status int // 0 if there was none
	Body   bytes.Buffer

	header http.Header
}

// Header implements http.ResponseWriter.
func (a *Answer) Header() http.Header {
	if a.header == nil {
		a.header = make(http.Header)
	}
	return a.header
}

// WriteHeader implements http.ResponseWriter.
func (a *Answer) WriteHeader(status int) {
	if a.Status == 0 {
		a.Status = status
	}
}

// Write implements http.ResponseWriter.
func (a *Answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.Body.Write(p)
}

// SetReadDeadline is for http.ResponseController. The body is in memory: it never waits.
func (*Answer) SetReadDeadline(time.Time) error { return nil }

// Interface guard
var _ http.ResponseWriter = (*Answer)(nil)

package ready

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// reason is why a handler does not store, in one word. Strangers may see it.
type reason string

const (
	isStoring    reason = ""
	isStopping   reason = "stopping"
	isNotRunning reason = "not_running"
	isFull       reason = "full"
	isBroken     reason = "broken"
	isSlow       reason = "slow"
	isFailing    reason = "failing"
)

// meaning returns the reason as the end of a sentence about a handler.
func (r reason) meaning() string {
	switch r {
	case isStopping:
		return "is shutting down"
	case isNotRunning:
		return "has not started yet, or is stopping"
	case isFull:
		return "has no room left in its inbox or on its disk"
	case isBroken:
		return "has lost the storage of its inbox"
	case isSlow:
		return "has an inbox that does not answer in time"
	case isStoring, isFailing:
	}
	return "cannot store in its inbox"
}

// reasonOf returns the reason for an error of an inbox or of control.
func reasonOf(err error) reason {
	switch {
	case err == nil:
		return isStoring
	case errors.Is(err, control.ErrNoHandler), errors.Is(err, inbox.ErrClosed) && !errors.Is(err, inbox.ErrBroken):
		return isNotRunning
	case errors.Is(err, inbox.ErrFull):
		return isFull
	case errors.Is(err, inbox.ErrBroken):
		return isBroken
	case errors.Is(err, errSlow), errors.Is(err, context.DeadlineExceeded):
		return isSlow
	default:
		return isFailing
	}
}

// verdict is what keeps a handler from storing. The name is empty if it is about all
// of this Caddy.
type verdict struct {
	Name   string `json:"name,omitempty"`
	Reason reason `json:"reason"`
}

// problem is an answer as RFC 9457 describes it.
type problem struct {
	Type     string    `json:"type,omitempty"`
	Title    string    `json:"title"`
	Status   int       `json:"status"`
	Detail   string    `json:"detail"`
	Handlers []verdict `json:"handlers,omitempty"`
}

const (
	notReadyType = "https://github.com/fotor-webhook/caddy-fotor-webhook/blob/main/docs/readiness.md#not-ready"

	// retryAfter is in seconds.
	retryAfter = "5"
)

func isReady(w http.ResponseWriter) error {
	return write(w, http.StatusOK, "application/json", []byte(`{"ready":true}`+"\n"))
}

func wrongMethod(w http.ResponseWriter) error {
	w.Header().Set("Allow", "GET, HEAD")
	return writeProblem(w, problem{
		Title: "Method Not Allowed", Status: http.StatusMethodNotAllowed, Detail: "Whether callbacks are stored is asked with GET or HEAD.",
	})
}

func notReady(w http.ResponseWriter, why []verdict) error {
	sentences := make([]string, 0, len(why))
	for _, v := range why {
		subject := "This Caddy "
		if v.Name != "" {
			subject = "The handler " + strconv.Quote(v.Name) + " "
		}
		sentences = append(sentences, subject+v.Reason.meaning()+".")
	}
	w.Header().Set("Retry-After", retryAfter)
	return writeProblem(w, problem{
		Type: notReadyType, Title: "Not ready", Status: http.StatusServiceUnavailable,
		Detail: strings.Join(sentences, " "), Handlers: why,
	})
}

func writeProblem(w http.ResponseWriter, p problem) error {
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return write(w, p.Status, "application/problem+json", append(body, '\n'))
}

func write(w http.ResponseWriter, status int, media string, body []byte) error {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Type", media)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, err := w.Write(body)
	return err
}

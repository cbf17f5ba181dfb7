package control

import (
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// This file has what the admin API and its clients have to agree on, apart from the
// types of the answers: the path, the parameters and their values, the media types.

// Root is the path on Caddy's admin endpoint below which the API is.
const Root = "/fotor_webhook/"

// The number of rows of a page: without the parameter limit, and the most that it may
// ask for.
const (
	PageDefault = 100
	PageMax     = 1000
)

// The media types of answers that are sent bit by bit.
const (
	MediaLines  = "application/x-ndjson" // the progress of a replay or purge
	MediaEvents = "text/event-stream"    // notices
)

// FilterParams are the parameters that choose events, in lists as well as in a
// replay or purge.
var FilterParams = []string{"state", "destination", "task", "type", "since", "until"}

// NoticeKinds are the kinds of notices that a stream can be limited to.
var NoticeKinds = []string{
	Accepted, Delivered, Retried, GivenBack, Dead, Lost, InQuarantine, Held, Resumed,
}

// StateNames returns the values of the parameter state, in the order of
// inbox.States.
func StateNames() []string {
	names := make([]string, 0, len(inbox.States))
	for _, state := range inbox.States {
		names = append(names, state.String())
	}
	return names
}

// ValidName reports whether a handler may have the name.
func ValidName(name string) bool { return inbox.ValidName(name) }

// Milliseconds returns a duration as it stands in answers.
func Milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

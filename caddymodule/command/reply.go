package command

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// reply is the result of one callback: a line of --json.
type reply struct {
	Number     int64         `json:"number"`
	TaskID     string        `json:"taskId,omitempty"`
	HTTPStatus int           `json:"httpStatus"`      // 0 if there was no answer
	Accepted   bool          `json:"accepted"`        // 200 with the id of an event
	Error      string        `json:"error,omitempty"` // why there was no answer, or that it is not a gateway's
	Answer     gatewayAnswer `json:"answer"`
	DurationMS float64       `json:"durationMs"`

	took    time.Duration
	foreign bool // the answer is not a gateway's
}

// gatewayAnswer is an answer of the gateway: an accepted callback, or a problem.
type gatewayAnswer struct {
	ID        string            `json:"id,omitempty"`
	Duplicate bool              `json:"duplicate,omitempty"`
	Title     string            `json:"title,omitempty"`
	Errors    []control.Problem `json:"errors,omitempty"`
}

// foreignHint is what to check if answers are not a gateway's.
const foreignHint = "%s came from something else than fotor_webhook: is its path that of the URL, and does no other " +
	"handler of the site come first? docs/production.md, \"In a site that has other handlers\""

// mediaProblem is the media type of the gateway's errors.
const mediaProblem = "application/problem+json"

// received is an answer as it arrived.
type received struct {
	status int
	header http.Header
	body   []byte
}

// judge decides whether the answer is a gateway's, and whether the callback was accepted:
// only then it has the id of an event. Another handler may answer 200 to anything, and
// Caddy does so if no route matches.
func (r *reply) judge(got received) {
	r.HTTPStatus = got.status
	media, _, _ := mime.ParseMediaType(got.header.Get("Content-Type")) // an error leaves it empty
	decoded := json.Unmarshal(got.body, &r.Answer) == nil
	_, err := inbox.ParseID(r.Answer.ID)
	switch {
	case got.status == http.StatusOK && decoded && err == nil:
		r.Accepted = true
		return
	case got.status >= 400 && decoded && media == mediaProblem && r.Answer.Title != "":
		return
	}
	r.Answer, r.foreign = gatewayAnswer{}, true
	r.Error = "not accepted: this is no answer of fotor_webhook: " + got.describe(media)
}

// describe describes an answer in a few words.
func (got *received) describe(media string) string {
	size := plural(int64(len(got.body)), "byte")
	switch location := got.header.Get("Location"); {
	case got.status/100 == 3 && location != "":
		return fmt.Sprintf("a redirect to %s, which Fotor may not follow", cut(location, 160))
	case len(got.body) == 0:
		return "it is empty"
	case media == "":
		return size + " of no media type"
	default:
		return fmt.Sprintf("%s of %s", size, cut(strings.ToLower(media), 80))
	}
}

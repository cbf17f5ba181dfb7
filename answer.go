package fotorwebhook

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fotor-webhook/caddy-fotor-webhook/body"
	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	mediaJSON    = "application/json"
	mediaProblem = "application/problem+json"

	// problemTypes is where the "type" of every error answer is explained.
	problemTypes = "https://github.com/fotor-webhook/caddy-fotor-webhook/blob/main/docs/answers.md#"

	// retryAfter is the Retry-After of a callback that could not be stored, in
	// seconds. It is short, because Fotor documents no retries.
	retryAfter = "5"
)

// answer is the response to a callback. Errors are problem details (RFC 9457).
type answer struct {
	outcome  gateway.Outcome
	status   int
	kind     string // the fragment of the problem's type
	title    string
	detail   string
	problems []callback.Problem

	// header is one more header, such as Retry-After.
	header, value string

	// body is the response body if the callback was accepted.
	body []byte

	// event is that of the callback, nil if it was refused before it had one.
	event *inbox.Event

	// early says that the caller may still be sending its body.
	early bool
}

var (
	answerTooEarly = answer{
		outcome: gateway.EarlyData, status: http.StatusTooEarly, kind: "early-data", title: "Too early",
		detail: "The request came as TLS early data; send it again after the handshake.",
	}
	answerForbidden = answer{
		outcome: gateway.Refused, status: http.StatusForbidden, kind: "not-whitelisted", title: "Not whitelisted",
		detail: "Your address may not send callbacks here.",
	}
	answerMethod = answer{
		outcome: gateway.Method, status: http.StatusMethodNotAllowed, kind: "method", title: "Method not allowed",
		detail: "This address takes the callbacks of Fotor's tasks: each a POST with a JSON body. There is nothing to read here.",
		header: "Allow", value: http.MethodPost,
	}
	answerBroken = answer{
		outcome: gateway.Broken, status: http.StatusBadRequest, kind: "broken-off", title: "Body broke off",
		detail: "The body could not be read to its end.",
	}
	answerUnavailable = answer{
		outcome: gateway.Unavailable, status: http.StatusServiceUnavailable, kind: "not-stored", title: "Not stored",
		detail: "The callback could not be stored; send it again.", header: "Retry-After", value: retryAfter,
	}
)

func answerTooLarge(limit int64) answer {
	return answer{
		outcome: gateway.TooLarge, status: http.StatusRequestEntityTooLarge, kind: "too-large", title: "Body too large",
		detail: fmt.Sprintf("The body is larger than %d bytes.", limit),
	}
}

func answerTimeout(err error) answer {
	return answer{
		outcome: gateway.Timeout, status: http.StatusRequestTimeout, kind: "too-slow", title: "Body too slow",
		detail: sentence(err) + ".",
	}
}

// sentence returns an error's text with a capital at its start.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

func answerMedia(detail string) answer {
	return answer{
		outcome: gateway.MediaType, status: http.StatusUnsupportedMediaType, kind: "media-type", title: "Unsupported media type",
		detail: detail + ".",
	}
}

func answerInvalid(invalid *callback.InvalidError) answer {
	if invalid.NotJSON {
		return answer{
			outcome: gateway.NotJSON, status: http.StatusBadRequest, kind: "not-json", title: "Not JSON",
			detail: "The body is not one JSON document.", problems: invalid.Problems,
		}
	}
	return answer{
		outcome: gateway.Invalid, status: http.StatusUnprocessableEntity, kind: "not-a-callback", title: "Not a Fotor callback",
		detail: "The body is JSON, but not in the format of a Fotor callback.", problems: invalid.Problems,
	}
}

func answerAccepted(id string, duplicate bool) answer {
	outcome := gateway.Accepted
	if duplicate {
		outcome = gateway.Duplicate
	}
	body := make([]byte, 0, 96)
	body = append(body, `{"id":"`...)
	body = append(body, id...) // hexadecimal digits
	body = append(body, `","duplicate":`...)
	body = strconv.AppendBool(body, duplicate)
	body = append(body, "}\n"...)
	return answer{outcome: outcome, status: http.StatusOK, body: body}
}

// whileSending returns the answer marked as early.
func (a answer) whileSending() answer {
	a.early = true
	return a
}

// write sends the answer. It fails if the caller has gone.
func (a *answer) write(w http.ResponseWriter) error {
	header := w.Header()
	media, body := mediaJSON, a.body
	if a.status != http.StatusOK {
		media, body = mediaProblem, a.problem()
		header.Set("Cache-Control", "no-store")
		header.Set("X-Content-Type-Options", "nosniff")
	}
	if a.header != "" {
		header.Set(a.header, a.value)
	}
	header.Set("Content-Type", media)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(a.status)
	_, err := w.Write(body)
	return err
}

const (
	// lingerTime and lingerBytes bound what is still read after an early answer.
	// Closing a connection with unread bytes resets it, and the answer may be lost.
	lingerTime  = 2 * time.Second
	lingerBytes = 64 << 20

	// resetDelay is how long the connection stays open, for the same reason, if
	// the body cannot be read on. net/http waits as long.
	resetDelay = 500 * time.Millisecond

	// smallRest is the largest declared body that is read to keep the connection:
	// proxies use one for many callers.
	smallRest = 64 << 10
)

// writeEarly sends an answer to a caller who may still be sending its body.
//
// With HTTP/1, net/http would first read on, up to 256 KiB and for as long as the
// server's timeouts allow. Here the answer goes out first, and then the connection
// is closed. HTTP/2 and HTTP/3 end the stream after the answer by themselves.
func (a *answer) writeEarly(w http.ResponseWriter, r *http.Request, since time.Time) error {
	if r.ProtoMajor != 1 || r.ContentLength == 0 {
		return a.write(w)
	}
	until := time.Now().Add(lingerTime)
	if server := body.ServerDeadline(r, since); !server.IsZero() && server.Before(until) {
		until = server
	}
	control := http.NewResponseController(w)
	bounded := control.SetReadDeadline(until) == nil
	if bounded && a.status != http.StatusRequestTimeout && r.Header.Get("Expect") == "" &&
		r.ContentLength > 0 && r.ContentLength <= smallRest {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			_ = control.SetReadDeadline(time.Time{}) // fails if the connection is gone
			return a.write(w)
		}
	}
	w.Header().Set("Connection", "close")
	if err := a.write(w); err != nil {
		return err
	}
	if flushed := control.Flush() == nil; !flushed || !bounded {
		return nil // the caller has gone, or reading on would not be bounded
	}
	began := time.Now()
	if _, err := io.CopyN(io.Discard, r.Body, lingerBytes); !errors.Is(err, io.EOF) {
		// the deadline had passed already, or a limit ended the body
		select {
		case <-time.After(resetDelay - time.Since(began)):
		case <-r.Context().Done():
		}
	}
	return nil
}

// problem renders the answer as application/problem+json.
func (a *answer) problem() []byte {
	body := make([]byte, 0, 256+128*len(a.problems))
	body = append(body, `{"type":"`+problemTypes+a.kind+`","title":`...)
	body = appendString(body, a.title)
	body = append(body, `,"status":`...)
	body = strconv.AppendInt(body, int64(a.status), 10)
	body = append(body, `,"detail":`...)
	body = appendString(body, a.detail)
	if a.problems != nil {
		body = append(body, `,"errors":`...)
		body = appendProblems(body, a.problems)
	}
	return append(body, "}\n"...)
}

func appendProblems(dst []byte, problems []callback.Problem) []byte {
	dst = append(dst, '[')
	for i, p := range problems {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"pointer":`...)
		dst = appendString(dst, p.Pointer)
		dst = append(dst, `,"detail":`...)
		dst = appendString(dst, p.Detail)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// appendString appends a JSON string. The error of AppendQuote only reports that
// it replaced invalid UTF-8, which does no harm in a text for people.
func appendString(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}

package forward

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/retryafter"
)

const (
	// maxAnswer is how much of an upstream's answer is read, so that the
	// connection can be used again; after a longer one it is closed. The status
	// counts without the rest, as a 2xx status does if the attempt's timeout
	// passes before the end of the answer.
	maxAnswer = 64 << 10

	// keptAnswer is how much of it can become the reason of a failure.
	keptAnswer = inbox.MaxReason
)

// result turns an upstream's complete answer into an attempt's result.
func result(status int, header http.Header, body []byte) dispatch.Result {
	r := dispatch.Result{Status: status}
	if status >= 200 && status <= 299 {
		return r
	}
	r.RetryAfter = retryafter.Of(header, time.Now())
	r.Reason = "HTTP " + strconv.Itoa(status)
	if location := location(header); location != "" && status >= 300 && status <= 399 {
		// without the body, which repeats the target with its query
		r.Reason += ": a redirect to " + location + ", which is not followed"
		return r
	}
	if status == http.StatusSwitchingProtocols {
		r.Unreachable = true
		r.Reason += ": the upstream switched protocols; expected an answer"
	} else if text := readable(body); text != "" {
		r.Reason += ": " + text
	}
	return r
}

// maxLocation is the length in bytes to which a redirect's target is cut.
const maxLocation = 256

// location returns where an answer redirects to, "" if nowhere, without what may be
// secret: user, query and fragment.
func location(header http.Header) string {
	value := header.Get("Location")
	if value == "" {
		return ""
	}
	target, err := url.Parse(value)
	if err != nil {
		return "what is no URL"
	}
	query := target.RawQuery != "" || target.Fragment != ""
	if target.Opaque != "" { // as in mailto:
		return target.Scheme + ":…"
	}
	target.User, target.RawQuery, target.Fragment, target.ForceQuery = nil, "", "", false
	text := target.String()
	if len(text) > maxLocation {
		text = strings.ToValidUTF8(text[:maxLocation], "") + "…"
	}
	if query {
		text += "?…"
	}
	return readable([]byte(text))
}

// noAnswer is the result of an attempt without a usable answer.
func noAnswer(ctx context.Context, err error) dispatch.Result {
	r := dispatch.Result{Unreachable: true, Reason: readable([]byte(err.Error()))}
	switch ctx.Err() {
	case context.DeadlineExceeded:
		r.Reason = "timeout: no complete answer in time"
	case context.Canceled:
		r.Cancelled = true
	}
	return r
}

// readable makes one bounded line of text from what an upstream sent.
func readable(b []byte) string {
	b = b[:min(len(b), inbox.MaxReason/2)]
	text := strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == utf8.RuneError {
			return ' '
		}
		return c
	}, string(b))
	return strings.Join(strings.Fields(text), " ")
}

package fotorwebhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Forward says where events go: a URL, or HTTP routes that an internal request
// runs through for every attempt. Exactly one of them is required.
type Forward struct {
	// The URL that events are POSTed to: absolute, with the scheme `http`,
	// `https` or `h2c`. Placeholders are replaced once, at load.
	URL string `json:"url,omitempty"`

	// The routes that events are sent through. The status that they answer
	// with decides: 2xx is taken, 410 is dead at once, all else is tried again.
	Routes caddyhttp.RouteList `json:"routes,omitempty"`
}

// attempter makes delivery attempts.
type attempter interface {
	attempt(ctx context.Context, lease *inbox.Lease) dispatch.Result
}

func (h *Handler) provisionForward(ctx caddy.Context) error {
	if err := h.provisionSecrets(); err != nil {
		return err
	}
	app := httpApp(ctx)
	h.grace = drainTime(app)

	switch f := h.Forward; {
	case f == nil || (f.URL == "" && f.Routes == nil):
		return errors.New("forward is missing: expected the URL of your service, or routes that lead to it")
	case f.URL != "" && f.Routes != nil:
		return errors.New("forward has both a URL and routes: expected one of them")
	case f.URL != "":
		direct, err := newURLForward(ctx, h)
		if err != nil {
			return fmt.Errorf("forward: %w", err)
		}
		h.attempter = direct
	default:
		routes, err := newRouteForward(ctx, h, app)
		if err != nil {
			return fmt.Errorf("forward: %w", err)
		}
		h.attempter = routes
	}
	return nil
}

// defaultDrain is how long attempts may go on after a stop when the HTTP app
// has no grace period: an endless one would keep a process from ending for as
// long as an upstream keeps silent.
const defaultDrain = 10 * time.Second

func drainTime(app *caddyhttp.App) time.Duration {
	if app != nil && app.GracePeriod > 0 {
		return time.Duration(app.GracePeriod)
	}
	return defaultDrain
}

// result turns an upstream's complete answer into an attempt's result.
func result(status int, header http.Header, body []byte) dispatch.Result {
	r := dispatch.Result{Status: status}
	if status >= 200 && status <= 299 {
		return r
	}
	r.RetryAfter = retryAfterOf(header, time.Now())
	r.Reason = "HTTP " + strconv.Itoa(status)
	if location := location(header); location != "" && status >= 300 && status <= 399 {
		// not the body, which repeats it with its query
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

// location is where an answer redirects to, "" if nowhere. It is without what
// may be a secret: user, query and fragment.
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

// noAnswer is the result of an attempt that brought no usable answer.
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

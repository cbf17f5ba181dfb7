package forward

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/secret"
)

// urlForward sends events to one URL, straight through Caddy's HTTP transport:
// the same transport as reverse_proxy's, without the routes around it.
type urlForward struct {
	options   *Options
	url       *url.URL
	transport *reverseproxy.HTTPTransport
}

func newURLForward(ctx caddy.Context, o *Options) (*urlForward, error) {
	target, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	raw, err := transportConfig(target, o.Concurrency)
	if err != nil {
		return nil, err
	}
	module, err := ctx.LoadModuleByID("http.reverse_proxy.transport.http", raw)
	if err != nil {
		return nil, fmt.Errorf("setting up the transport: %w", err)
	}
	if target.Scheme == "h2c" {
		target.Scheme = "http"
	}
	return &urlForward{options: o, url: target, transport: module.(*reverseproxy.HTTPTransport)}, nil
}

// parseURL checks a forward URL. Its errors do not show the URL, which
// may hold a token.
func parseURL(raw string) (*url.URL, error) {
	text, err := secret.Resolve(raw)
	if err != nil {
		return nil, fmt.Errorf("the URL: %w", err)
	}
	if strings.HasPrefix(text, "unix/") || strings.HasPrefix(text, "unix:") || strings.HasPrefix(text, "unix+") {
		return nil, errors.New("a Unix socket has no URL: expected a block in its place, such as forward { reverse_proxy unix//run/app.sock }")
	}
	target, err := url.Parse(text)
	if err != nil {
		if parse, ok := errors.AsType[*url.Error](err); ok {
			err = parse.Err
		}
		return nil, fmt.Errorf("the URL cannot be read: %w", err)
	}
	switch target.Scheme {
	case "http", "https", "h2c":
	default:
		return nil, fmt.Errorf("the URL has the scheme %q: expected http, https or h2c, as in https://app.example.com/events", target.Scheme)
	}
	if target.Hostname() == "" {
		return nil, errors.New("the URL has no host: expected one, as in https://app.example.com/events")
	}
	if port := target.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("the URL has the port %.16s: expected 1 to 65535", port)
		}
	}
	if target.Fragment != "" {
		return nil, errors.New("the URL has a fragment, which is never sent: expected none")
	}
	return target, nil
}

func transportConfig(target *url.URL, concurrency int) (json.RawMessage, error) {
	noCompression := false
	transport := reverseproxy.HTTPTransport{
		Compression: &noCompression,
		KeepAlive:   &reverseproxy.KeepAlive{MaxIdleConnsPerHost: concurrency},
	}
	switch target.Scheme {
	case "https":
		transport.TLS = new(reverseproxy.TLSConfig)
	case "h2c":
		transport.Versions = []string{"h2c", "2"}
	}
	var warnings []caddyconfig.Warning
	raw := caddyconfig.JSON(transport, &warnings)
	if len(warnings) > 0 {
		return nil, fmt.Errorf("setting up the transport: %s", warnings[0].Message)
	}
	return raw, nil
}

func (f *urlForward) attempt(ctx context.Context, lease *inbox.Lease) dispatch.Result {
	target := *f.url
	r := f.options.request(ctx, &target, lease, time.Now())
	if user := f.url.User; user != nil {
		password, _ := user.Password()
		r.SetBasicAuth(user.Username(), password)
		target.User = nil
	}
	response, err := f.transport.RoundTrip(r)
	if err != nil {
		return noAnswer(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusSwitchingProtocols {
		return result(response.StatusCode, response.Header, nil) // there is no answer after it
	}
	kept, err := readAnswer(response)
	if successful := response.StatusCode <= 299; successful && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		// the answer has no end, but its status has come
		return result(response.StatusCode, response.Header, nil)
	}
	if err != nil {
		return noAnswer(ctx, fmt.Errorf("HTTP %d, but its body broke off: %w", response.StatusCode, err))
	}
	return result(response.StatusCode, response.Header, kept)
}

// readAnswer reads an answer up to maxAnswer and returns its beginning, unless it is a success.
func readAnswer(response *http.Response) (kept []byte, err error) {
	body := io.LimitReader(response.Body, maxAnswer)
	if response.StatusCode > 299 { // it may say why
		if kept, err = io.ReadAll(io.LimitReader(body, keptAnswer)); err != nil {
			return nil, err
		}
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return nil, err
	}
	return kept, nil
}

func (f *urlForward) target() string { return f.url.Scheme + "://" + f.url.Host }

func (f *urlForward) close() {
	f.transport.Transport.CloseIdleConnections()
}

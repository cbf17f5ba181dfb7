// Package dashboard is a page to look at running gateways: how they are doing, what has
// arrived, what became of it, and what is wrong. It shows what the admin API answers.
// docs/dashboard.md describes it for users.
//
// Read the files in this order:
//   - dashboard.go: the module; guard.go: is the route guarded
//   - serve.go: from the request to a page; headers.go and zip.go: what every answer has;
//     assets.go: style and script; live.go: telling open pages that something happened;
//     pause.go: how often they look
//   - render.go: what all pages have in common; words.go: texts for people
//   - overview.go, events.go, event.go, media.go, problems.go, whitelist.go: the pages,
//     whose templates are in pages/
//   - actions.go: from a form to a change, and notices.go: what is told of it; change.go,
//     holds.go, groups.go, tryit.go: the changes
package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
)

const directive = "fotor_webhook_dashboard"

func init() {
	caddy.RegisterModule(new(Handler))
	httpcaddyfile.RegisterHandlerDirective(directive, parseCaddyfile)
	// after whatever guards it, and before fotor_webhook, which takes every path if it has
	// no matcher
	httpcaddyfile.RegisterDirectiveOrder(directive, httpcaddyfile.Before, "respond")
}

// defaultImageHosts are where Fotor's results are.
var defaultImageHosts = []string{"pub-static.fotor.com", "static.fotor.com.cn"}

// maxImageHosts bounds ImageHosts: all of them are in a header of every answer.
const maxImageHosts = 32

// Handler serves the dashboard: web pages that show how the `fotor_webhook` handlers of
// this Caddy are doing, the events that have arrived and what became of them, dead and
// quarantined ones, and who may call. It only reads, unless `allow_actions` is set.
//
// It has no password of its own. Put it on a route behind something that decides who may
// read: `basic_auth`, `forward_auth`, client certificates, or a matcher of addresses.
//
// It is a terminal handler: it answers every request that reaches it. It may be below any
// path: links are relative.
type Handler struct {
	// That everybody who reaches the route may read what is shown, result URLs and
	// quarantined bodies included. It only keeps Caddy from warning about a route without a
	// guard. Default: false
	Public bool `json:"public,omitempty"`

	// The hosts from which pages show images and videos, such as `images.example.com`,
	// `*.example.com` or `images.example.com:8443`; at most 32. Nothing is ever loaded from
	// others: there is a link instead. An empty list shows none.
	// Default: `["pub-static.fotor.com", "static.fotor.com.cn"]`
	ImageHosts []string `json:"image_hosts,omitzero"`

	// That whoever reaches the route may also change something: replay and purge events,
	// hold and resume deliveries, release and delete what is in quarantine, and send test
	// callbacks. Each change is logged. Requests from pages of other sites are refused. It
	// cannot be set together with `public`. Default: false
	AllowActions bool `json:"allow_actions,omitempty"`

	logger *zap.Logger
	site   *site

	// stopped is done when the server begins to shut down: it would wait for live streams.
	stopped context.Context
	stop    context.CancelFunc
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers." + directive,
		New: func() caddy.Module { return new(Handler) },
	}
}

func parseCaddyfile(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h := new(Handler)
	return h, h.UnmarshalCaddyfile(helper.Dispenser)
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	fotor_webhook_dashboard [<matcher>] {
//		image_hosts <host>... | off
//		public
//		allow_actions
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume directive name
	if d.NextArg() {
		return d.Errf("%s: unexpected argument '%s': expected a matcher, a block, or nothing", directive, d.Val())
	}
	for d.NextBlock(0) {
		switch option := d.Val(); option {
		case "public", "allow_actions":
			if _, err := caddymodule.Arguments(d, directive, 0, "no arguments"); err != nil {
				return err
			}
			h.Public = h.Public || option == "public"
			h.AllowActions = h.AllowActions || option == "allow_actions"
		case "image_hosts":
			hosts := d.RemainingArgs()
			if len(hosts) == 0 || d.NextBlock(1) {
				return d.Errf("%s: image_hosts: expected one host or more, such as images.example.com, or off", directive)
			}
			if h.ImageHosts == nil {
				h.ImageHosts = []string{}
			}
			if !slices.Equal(hosts, []string{"off"}) {
				h.ImageHosts = append(h.ImageHosts, hosts...)
			}
		default:
			return d.Errf("%s: unknown option '%s': expected image_hosts, public or allow_actions", directive, option)
		}
	}
	return nil
}

// Provision sets the defaults, and has the route looked at when the config starts.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	if h.ImageHosts == nil {
		h.ImageHosts = defaultImageHosts
	}
	h.stopped, h.stop = context.WithCancel(ctx)
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		server.RegisterOnShutdown(h.stop)
	}
	h.site = newSite(h)
	app, err := ctx.App(caddymodule.AppID)
	if err != nil {
		return fmt.Errorf("%s: %w", directive, err)
	}
	app.(caddymodule.App).OnStart(func() error {
		h.warnUnguarded(ctx)
		return nil
	})
	return nil
}

// hostPattern is what Content-Security-Policy takes as a host, in lower case: the header
// is made of these, so nothing else may get into it.
var hostPattern = regexp.MustCompile(`^(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?(:[0-9]{1,5})?$`)

// Validate checks the hosts, and that not everybody may change something.
func (h *Handler) Validate() error {
	if h.Public && h.AllowActions {
		return fmt.Errorf("%s: public and allow_actions are both set: everybody who reaches it could replay, hold and purge;"+
			" expected one of them: with allow_actions, something before the dashboard that decides who may, such as basic_auth or a client_ip matcher", directive)
	}
	if len(h.ImageHosts) > maxImageHosts {
		return fmt.Errorf("%s: image_hosts has %d hosts: expected at most %d", directive, len(h.ImageHosts), maxImageHosts)
	}
	for _, host := range h.ImageHosts {
		if len(host) > 255 || !hostPattern.MatchString(host) || strings.Contains(host, "..") {
			return fmt.Errorf("%s: image_hosts has %.80q: expected a host in lower case without scheme and path, such as images.example.com, *.example.com or images.example.com:8443",
				directive, host)
		}
	}
	return nil
}

// Cleanup ends the live streams.
func (h *Handler) Cleanup() error {
	if h.stop != nil {
		h.stop()
	}
	return nil
}

// ServeHTTP answers with a page.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	return h.site.serve(w, r)
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)

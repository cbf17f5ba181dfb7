package fotorwebhook

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fotor-webhook/caddy-fotor-webhook/asking"
	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/option"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("fotor_webhook", parseCaddyfile)
	httpcaddyfile.RegisterDirectiveOrder("fotor_webhook", httpcaddyfile.Before, "respond")
}

func parseCaddyfile(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h := new(Handler)
	if err := h.UnmarshalCaddyfile(helper.Dispenser); err != nil {
		return nil, err
	}
	if err := h.FinalizeUnmarshalCaddyfile(helper); err != nil {
		return nil, err
	}
	return h, nil
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	fotor_webhook [<matcher>] [<url>] {
//	    name        <name>
//	    allow       fotor|private_ranges|<ip>|<cidr> ...
//	    allow_from  <ip_source> ...
//	    max_body    <size>
//	    inbox       <module> ...
//	    keep        <duration>
//	    quarantine  <count>|off
//	    result_url  <prefix> <replacement> | off
//	    map_status  <number> in_progress|completed|failed
//	    fotor_api   {
//	        key, url, rate, transport, reconcile  # see asking.Config
//	    }
//	    forward     <url> | {
//	        <directives...>
//	    }
//	    destination <name> {
//	        match   type|status <value> ... | sensitive | expression <cel>
//	        forward, sign, timeout, concurrency, rate, retry  # as those of the handler
//	    }
//	    sign        <secret> ...
//	    timeout     <duration>
//	    concurrency <n>
//	    rate        <n>/s
//	    retry {
//	        first   <duration>
//	        max     <duration>
//	        give_up <duration>
//	    }
//	}
//
// A URL after the matcher is short for forward with that URL; then no block is needed.
// Only allow, allow_from, result_url, map_status, destination and match may be repeated.
// FinalizeUnmarshalCaddyfile must be called after this to parse forward blocks.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume directive name
	if err := h.unmarshalURL(d); err != nil {
		return err
	}
	seen := make(option.Seen)
	for d.NextBlock(0) {
		name := d.Val()
		if err := seen.Once(d, "", name, "allow", "allow_from", "result_url", "map_status", "destination"); err != nil {
			return err
		}
		if err := h.unmarshalOption(d, name); err != nil {
			return err
		}
	}
	if h.Forward == nil && !seen["destination"] {
		return d.Err("fotor_webhook: forward is missing: expected the URL of your service, as in " + oneLine +
			", or forward with a block of directives that lead to it")
	}
	return nil
}

// What errors about the directive's line expect.
const (
	oneLine = "'fotor_webhook /fotor/callback http://127.0.0.1:9000/events'"
	inLine  = "expected [<matcher>] [<url>], as in " + oneLine + "; a matcher is *, /… or @…"
)

// unmarshalURL parses what follows the matcher in the directive's line, from which Caddy
// has removed the matcher.
func (h *Handler) unmarshalURL(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 0:
		return nil
	case len(args) > 1:
		return d.Errf("fotor_webhook: %d arguments beside a matcher: %s", len(args), inLine)
	case !strings.Contains(args[0], "://") && !strings.Contains(args[0], "{"): // it may be a placeholder
		return d.Errf("fotor_webhook: '%s' is no URL: %s", args[0], inLine)
	}
	h.Forward = &Forward{URL: args[0]}
	return nil
}

func (h *Handler) unmarshalOption(d *caddyfile.Dispenser, name string) error {
	switch name {
	case "name":
		return option.One(d, name, "a name", func(s string) (err error) {
			h.Name, err = s, checkName(s)
			return err
		})
	case "allow":
		return option.Some(d, name, "fotor, private_ranges, an IP address or a CIDR range", &h.Allow)
	case "allow_from":
		return h.unmarshalAllowFrom(d)
	case "max_body":
		return option.Size(d, name, &h.MaxBody)
	case "inbox":
		return h.unmarshalInbox(d)
	case "keep":
		return option.Duration(d, name, &h.Keep)
	case "quarantine":
		return option.One(d, name, "a count or off", func(s string) error {
			h.Quarantine = new(int)
			if s == "off" {
				return nil
			}
			if option.Count(s, h.Quarantine) != nil {
				return errors.New("expected a whole number above zero, or off")
			}
			return nil
		})
	case "result_url":
		return h.unmarshalResultURL(d)
	case "map_status":
		return h.unmarshalMapStatus(d)
	case "fotor_api":
		h.FotorAPI = new(asking.Config)
		return h.FotorAPI.UnmarshalCaddyfile(d)
	case "forward":
		if h.Forward != nil {
			return d.Err("both a URL after fotor_webhook and the option forward, which are the same: expected one of them")
		}
		return unmarshalForward(d, name, &h.Forward)
	case "destination":
		return h.unmarshalDestination(d)
	case "sign":
		return option.Some(d, name, "a secret", &h.Sign)
	case "timeout":
		return option.Duration(d, name, &h.Timeout)
	case "concurrency":
		return unmarshalConcurrency(d, name, &h.Concurrency)
	case "rate":
		return unmarshalRate(d, name, &h.Rate)
	case "retry":
		return unmarshalRetry(d, name, &h.Retry)
	default:
		return d.Errf("fotor_webhook: unknown option '%s': expected name, allow, allow_from, max_body, inbox, keep,"+
			" quarantine, result_url, map_status, fotor_api, forward, destination, sign, timeout, concurrency, rate or retry", name)
	}
}

// unmarshalResultURL parses a prefix and its replacement, or off, which turns off
// the default.
func (h *Handler) unmarshalResultURL(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 1 && args[0] == "off" {
		args = []string{callback.BucketPrefix, callback.BucketPrefix}
	}
	if len(args) != 2 {
		return d.Errf("result_url: %d values: expected a prefix and its replacement, or off", len(args))
	}
	if _, ok := h.ResultURL[args[0]]; ok {
		return d.Errf("result_url: '%s' given twice: expected one replacement for each prefix", args[0])
	}
	if h.ResultURL == nil {
		h.ResultURL = make(map[string]string)
	}
	h.ResultURL[args[0]] = args[1]
	return option.NoBlock(d, "result_url")
}

func (h *Handler) unmarshalMapStatus(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 2 {
		return d.Errf("map_status: %d values: expected a number and in_progress, completed or failed", len(args))
	}
	number, err := strconv.Atoi(args[0])
	if err != nil {
		return d.Errf("map_status: '%s': expected a number", args[0])
	}
	if _, ok := h.MapStatus[number]; ok {
		return d.Errf("map_status: %d given twice: expected one meaning for each number", number)
	}
	if h.MapStatus == nil {
		h.MapStatus = make(map[int]string)
	}
	h.MapStatus[number] = args[1]
	return option.NoBlock(d, "map_status")
}

func (h *Handler) unmarshalAllowFrom(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Err("allow_from: no value: expected the name of an IP source module, such as static")
	}
	name := d.Val()
	module, err := caddyfile.UnmarshalModule(d, "http.ip_sources."+name)
	if err != nil {
		return fmt.Errorf("allow_from: %w", err)
	}
	source, ok := module.(caddyhttp.IPRangeSource)
	if !ok {
		return d.Errf("allow_from: the module '%s' is not an IP source", name)
	}
	h.AllowFromRaw = append(h.AllowFromRaw, caddyconfig.JSONModuleObject(source, "source", name, nil))
	return nil
}

func (h *Handler) unmarshalInbox(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Err("inbox: no value: expected the name of an inbox module, such as sqlite")
	}
	name := d.Val()
	if err := checkInbox(name); err != nil {
		return d.Errf("inbox: %v", err)
	}
	module, err := caddyfile.UnmarshalModule(d, "http.fotor_webhook.inbox."+name)
	if err != nil {
		return err
	}
	h.InboxRaw = caddyconfig.JSONModuleObject(module, "module", name, nil)
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)

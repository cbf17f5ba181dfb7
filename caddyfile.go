package fotorwebhook

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
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
//	fotor_webhook [<matcher>] {
//	    name        <name>
//	    allow       fotor|private_ranges|<ip>|<cidr> ...
//	    allow_from  <ip_source> ...
//	    max_body    <size>
//	    inbox       <module> ...
//	    keep        <duration>
//	    quarantine  <count>|off
//	    result_url  <prefix> <replacement> | off
//	    map_status  <number> in_progress|completed|failed
//	    forward     <url> | {
//	        <directives...>
//	    }
//	    sign        <secret> ...
//	    timeout     <duration>
//	    concurrency <n>
//	    retry {
//	        first   <duration>
//	        max     <duration>
//	        give_up <duration>
//	    }
//	}
//
// Only allow, allow_from, result_url and map_status may be repeated.
// FinalizeUnmarshalCaddyfile must be called after this to parse a forward block.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume directive name
	if d.NextArg() {
		return d.Errf("fotor_webhook: unexpected argument '%s': expected a block", d.Val())
	}
	seen := make(seenOptions)
	for d.NextBlock(0) {
		option := d.Val()
		if err := seen.once(d, option, "allow", "allow_from", "result_url", "map_status"); err != nil {
			return err
		}
		if err := h.unmarshalOption(d, option); err != nil {
			return err
		}
	}
	if !seen["forward"] {
		return d.Err("fotor_webhook: forward is missing: expected the URL of your service, or a block of directives that lead to it")
	}
	return nil
}

func (h *Handler) unmarshalOption(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "name":
		return one(d, option, "a name", func(s string) (err error) {
			h.Name, err = s, checkName(s)
			return err
		})
	case "allow":
		return some(d, option, "fotor, private_ranges, an IP address or a CIDR range", &h.Allow)
	case "allow_from":
		return h.unmarshalAllowFrom(d)
	case "max_body":
		return size(d, option, &h.MaxBody)
	case "inbox":
		return h.unmarshalInbox(d)
	case "keep":
		return duration(d, option, &h.Keep)
	case "quarantine":
		return one(d, option, "a count or off", func(s string) error {
			h.Quarantine = new(int)
			if s == "off" {
				return nil
			}
			if parseCount(s, h.Quarantine) != nil {
				return errors.New("expected a whole number above zero, or off")
			}
			return nil
		})
	case "result_url":
		return h.unmarshalResultURL(d)
	case "map_status":
		return h.unmarshalMapStatus(d)
	case "forward":
		return h.unmarshalForward(d)
	case "sign":
		return some(d, option, "a secret", &h.Sign)
	case "timeout":
		return duration(d, option, &h.Timeout)
	case "concurrency":
		return one(d, option, "a count", func(s string) error { return parseCount(s, &h.Concurrency) })
	case "retry":
		return h.unmarshalRetry(d)
	default:
		return d.Errf("fotor_webhook: unknown option '%s': expected name, allow, allow_from, max_body, inbox, keep,"+
			" quarantine, result_url, map_status, forward, sign, timeout, concurrency or retry", option)
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
	return noBlock(d, "result_url")
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
	return noBlock(d, "map_status")
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

// unmarshalForward parses a URL, or keeps a block for FinalizeUnmarshalCaddyfile:
// to parse directives, an httpcaddyfile.Helper is needed.
func (h *Handler) unmarshalForward(d *caddyfile.Dispenser) error {
	segment := d.NewFromNextSegment()
	h.Forward = new(Forward)
	probe := segment
	probe.Next() // consume option name
	args := probe.RemainingArgs()
	block := probe.NextBlock(0)
	probe.Reset()
	switch {
	case len(args) == 0 && !block:
		return d.Err("forward: no value: expected a URL or a block of directives")
	case len(args) > 0 && block:
		return d.Errf("forward: both '%s' and a block: expected a URL or a block of directives", args[0])
	case len(args) > 1:
		return d.Errf("forward: %d values: expected one URL", len(args))
	case block:
		h.forwardBlock = segment
		return nil
	}
	h.Forward.URL = args[0]
	return nil
}

// FinalizeUnmarshalCaddyfile parses the forward block, if there is one, as
// HTTP directives.
func (h *Handler) FinalizeUnmarshalCaddyfile(helper httpcaddyfile.Helper) error {
	if h.forwardBlock == nil {
		return nil
	}
	handler, err := httpcaddyfile.ParseSegmentAsSubroute(helper.WithDispenser(h.forwardBlock))
	if err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	subroute, ok := handler.(*caddyhttp.Subroute)
	if !ok {
		return helper.Errf("forward: parsed as %T: expected a subroute", handler)
	}
	h.Forward.Routes = subroute.Routes
	h.forwardBlock = nil
	return nil
}

func (h *Handler) unmarshalRetry(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("retry: unexpected argument '%s': expected a block", d.Val())
	}
	h.Retry = new(Retry)
	seen := make(seenOptions)
	for d.NextBlock(1) {
		option := d.Val()
		if err := seen.once(d, option); err != nil {
			return err
		}
		var value *caddy.Duration
		switch option {
		case "first":
			value = &h.Retry.First
		case "max":
			value = &h.Retry.Max
		case "give_up":
			value = &h.Retry.GiveUp
		default:
			return d.Errf("retry: unknown option '%s': expected first, max or give_up", option)
		}
		if err := duration(d, "retry "+option, value); err != nil {
			return err
		}
	}
	return nil
}

// seenOptions are the options that a block has had so far.
type seenOptions map[string]bool

// once records an option. A second time is an error, unless the option is one of
// the repeatable ones.
func (s seenOptions) once(d *caddyfile.Dispenser, option string, repeatable ...string) error {
	if s[option] {
		if slices.Contains(repeatable, option) {
			return nil
		}
		return d.Errf("%s: given twice: expected at most once", option)
	}
	s[option] = true
	return nil
}

// one parses an option that has exactly one value and no block.
func one(d *caddyfile.Dispenser, option, expected string, parse func(string) error) error {
	args := d.RemainingArgs()
	if len(args) != 1 {
		return d.Errf("%s: %d values: expected one, %s", option, len(args), expected)
	}
	if err := parse(args[0]); err != nil {
		return d.Errf("%s: '%s': %v", option, args[0], err)
	}
	return noBlock(d, option)
}

// some parses an option that has at least one value and no block.
func some(d *caddyfile.Dispenser, option, expected string, to *[]string) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Errf("%s: no value: expected %s", option, expected)
	}
	*to = append(*to, args...)
	return noBlock(d, option)
}

func noBlock(d *caddyfile.Dispenser, option string) error {
	if d.NextBlock(d.Nesting()) {
		return d.Errf("%s: unexpected block", option)
	}
	return nil
}

func duration(d *caddyfile.Dispenser, option string, to *caddy.Duration) error {
	return one(d, option, "a duration, such as 30s or 7d", func(s string) error {
		parsed, err := caddy.ParseDuration(s)
		if err != nil || parsed <= 0 {
			return errors.New("expected a duration above zero, such as 30s or 7d")
		}
		*to = caddy.Duration(parsed)
		return nil
	})
}

func size(d *caddyfile.Dispenser, option string, to *int64) error {
	return one(d, option, "a size, such as 1MiB", func(s string) error {
		parsed, err := humanize.ParseBytes(s)
		if err != nil || parsed == 0 || parsed > 1<<62 {
			return errors.New("expected a size above zero, such as 1MiB")
		}
		*to = int64(parsed)
		return nil
	})
}

func parseCount(s string, to *int) error {
	n, err := strconv.Atoi(s)
	if err != nil || n <= 0 {
		return errors.New("expected a whole number above zero")
	}
	*to = n
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)

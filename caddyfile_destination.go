package fotorwebhook

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/option"
	"github.com/fotor-webhook/caddy-fotor-webhook/match"
)

// unmarshalDestination parses the name and the block of a destination.
func (h *Handler) unmarshalDestination(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 {
		return d.Errf("destination: %d values: expected a name and a block", len(args))
	}
	name := args[0]
	if err := inbox.CheckDestination(name); err != nil {
		return d.Err(err.Error())
	}
	switch {
	case h.Destinations[name] != nil:
		return d.Errf("destination %q given twice: expected a name of its own for each", name)
	case h.Destinations == nil:
		h.Destinations = make(map[string]*Destination)
	}
	dest := new(Destination)
	h.Destinations[name] = dest
	prefix := fmt.Sprintf("destination %q: ", name)
	seen := make(option.Seen)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := seen.Once(d, prefix, d.Val(), "match"); err != nil {
			return err
		}
		if err := dest.unmarshalOption(d, prefix); err != nil {
			return err
		}
	}
	if !seen["forward"] {
		return d.Errf("%sforward is missing: expected the URL of your service, or a block of directives that lead to it", prefix)
	}
	return nil
}

// unmarshalOption parses an option of a destination, whose name in errors begins with
// the prefix.
func (dest *Destination) unmarshalOption(d *caddyfile.Dispenser, prefix string) error {
	name := prefix + d.Val()
	switch d.Val() {
	case "match":
		return dest.unmarshalMatch(d, name)
	case "forward":
		return unmarshalForward(d, name, &dest.Forward)
	case "sign":
		return option.Some(d, name, "a secret", &dest.Sign)
	case "timeout":
		return option.Duration(d, name, &dest.Timeout)
	case "concurrency":
		return unmarshalConcurrency(d, name, &dest.Concurrency)
	case "rate":
		return unmarshalRate(d, name, &dest.Rate)
	case "retry":
		return unmarshalRetry(d, name, &dest.Retry)
	default:
		return d.Errf("%sunknown option '%s': expected match, forward, sign, timeout, concurrency, rate or retry", prefix, d.Val())
	}
}

// unmarshalMatch parses one line of match. Of each kind but expression there is one: two
// lines with types would only be fit by what is in both.
func (dest *Destination) unmarshalMatch(d *caddyfile.Dispenser, name string) error {
	if !d.NextArg() {
		return d.Errf("%s: no value: expected type, status, sensitive or expression", name)
	}
	if dest.Match == nil {
		dest.Match = new(match.Rules)
	}
	kind, m := d.Val(), dest.Match
	name += " " + kind
	switch kind {
	case "type", "status":
		to, expected := &m.Types, "one or more types of tasks, such as avatar"
		if kind == "status" {
			to, expected = &m.Statuses, "in_progress, completed, failed or lost"
		}
		if len(*to) > 0 {
			return d.Errf("%s: given twice: expected all values in one line", name)
		}
		return option.Some(d, name, expected, to)
	case "sensitive":
		if m.Sensitive {
			return d.Errf("%s: given twice: expected at most once", name)
		}
		m.Sensitive = true
		if d.NextArg() {
			return d.Errf("%s: unexpected value '%s': expected none", name, d.Val())
		}
		return option.NoBlock(d, name)
	case "expression":
		expression := expressionOf(d)
		if expression == "" {
			return d.Errf("%s: no value: expected a CEL expression, such as `event.type == \"avatar\"`", name)
		}
		m.Expressions = append(m.Expressions, expression)
		return option.NoBlock(d, name)
	default:
		return d.Errf("%s: expected type, status, sensitive or expression", name)
	}
}

// expressionOf returns the rest of a line as Caddy's own matcher does: one token as it
// is, several as they are written, because quotes belong to the expression then.
func expressionOf(d *caddyfile.Dispenser) string {
	if d.CountRemainingArgs() > 1 {
		return strings.Join(d.RemainingArgsRaw(), " ")
	}
	return strings.Join(d.RemainingArgs(), " ")
}

func unmarshalConcurrency(d *caddyfile.Dispenser, name string, to *int) error {
	return option.One(d, name, "a count", func(s string) error { return option.Count(s, to) })
}

func unmarshalRate(d *caddyfile.Dispenser, name string, to *float64) error {
	return option.Rate(d, name, "10/s", minRate, maxRate, to)
}

// unmarshalForward parses a URL, or keeps a block for FinalizeUnmarshalCaddyfile:
// to parse directives, an httpcaddyfile.Helper is needed.
func unmarshalForward(d *caddyfile.Dispenser, name string, to **Forward) error {
	segment := d.NewFromNextSegment()
	probe := segment
	probe.Next() // consume option name
	args := probe.RemainingArgs()
	block := probe.NextBlock(0)
	probe.Reset()
	switch {
	case len(args) == 0 && !block:
		return d.Errf("%s: no value: expected a URL or a block of directives", name)
	case len(args) > 0 && block:
		return d.Errf("%s: both '%s' and a block: expected a URL or a block of directives", name, args[0])
	case len(args) > 1:
		return d.Errf("%s: %d values: expected one URL", name, len(args))
	case block:
		*to = &Forward{block: segment}
	default:
		*to = &Forward{URL: args[0]}
	}
	return nil
}

// FinalizeUnmarshalCaddyfile parses the forward blocks, if there are any, as HTTP
// directives.
func (h *Handler) FinalizeUnmarshalCaddyfile(helper httpcaddyfile.Helper) error {
	if err := h.Forward.finalize(helper); err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(h.Destinations)) {
		if err := h.Destinations[name].Forward.finalize(helper); err != nil {
			return fmt.Errorf("destination %q: forward: %w", name, err)
		}
	}
	return nil
}

// finalize parses the block. A nil Forward has none.
func (f *Forward) finalize(helper httpcaddyfile.Helper) error {
	if f == nil || f.block == nil {
		return nil
	}
	handler, err := httpcaddyfile.ParseSegmentAsSubroute(helper.WithDispenser(f.block))
	if err != nil {
		return err
	}
	subroute, ok := handler.(*caddyhttp.Subroute)
	if !ok {
		return fmt.Errorf("parsed as %T: expected a subroute", handler)
	}
	f.Routes, f.block = subroute.Routes, nil
	return nil
}

func unmarshalRetry(d *caddyfile.Dispenser, name string, to **Retry) error {
	if d.NextArg() {
		return d.Errf("%s: unexpected argument '%s': expected a block", name, d.Val())
	}
	retry := new(Retry)
	*to = retry
	seen := make(option.Seen)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var value *caddy.Duration
		switch d.Val() {
		case "first":
			value = &retry.First
		case "max":
			value = &retry.Max
		case "give_up":
			value = &retry.GiveUp
		default:
			return d.Errf("%s: unknown option '%s': expected first, max or give_up", name, d.Val())
		}
		if err := seen.Once(d, name+" ", d.Val()); err != nil {
			return err
		}
		if err := option.Duration(d, name+" "+d.Val(), value); err != nil {
			return err
		}
	}
	return nil
}

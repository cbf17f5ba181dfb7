package asking

import (
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/option"
)

// UnmarshalCaddyfile parses the option, whose name is the current token. Syntax:
//
//	fotor_api {
//	    key       <key>
//	    url       <url>
//	    rate      <n>/s
//	    transport http { ... }
//	    confirm    off|final
//	    on_failure deliver|hold
//	    patience   <duration>
//	    reconcile {
//	        after   <duration>
//	        every   <duration>
//	        give_up <duration>
//	    }
//	}
func (c *Config) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("fotor_api: unexpected value '%s': expected a block with a key", show(d.Val()))
	}
	const prefix = "fotor_api: "
	seen := make(option.Seen)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := seen.Once(d, prefix, d.Val()); err != nil {
			return err
		}
		if err := c.unmarshalOption(d, prefix); err != nil {
			return err
		}
	}
	if !seen["key"] {
		return d.Err("fotor_api: key is missing: expected an API key of Fotor's, as in 'key {env.FOTOR_API_KEY}'")
	}
	return nil
}

func (c *Config) unmarshalOption(d *caddyfile.Dispenser, prefix string) error {
	name := prefix + d.Val()
	switch d.Val() {
	case "key":
		args := d.RemainingArgs() // which no error shows
		if len(args) != 1 {
			return d.Errf("%s: %d values: expected one, such as {env.FOTOR_API_KEY}", name, len(args))
		}
		c.Key = args[0]
		return option.NoBlock(d, name)
	case "url":
		return option.One(d, name, "a URL", func(s string) error {
			c.URL = s
			return nil
		})
	case "rate":
		return option.Rate(d, name, "2/s", minRate, maxRate, &c.Rate)
	case "confirm":
		return option.One(d, name, "off or final", func(s string) error {
			c.Confirm = s
			return either(s, confirmOff, confirmFinal)
		})
	case "on_failure":
		return option.One(d, name, "deliver or hold", func(s string) error {
			c.OnFailure = s
			return either(s, onFailureDeliver, onFailureHold)
		})
	case "patience":
		return option.Duration(d, name, &c.Patience)
	case "transport":
		return c.unmarshalTransport(d, name)
	case "reconcile":
		return c.unmarshalReconcile(d, name)
	default:
		return d.Errf("%sunknown option '%s': expected key, url, rate, confirm, on_failure, patience, transport or reconcile", prefix, show(d.Val()))
	}
}

func (c *Config) unmarshalTransport(d *caddyfile.Dispenser, name string) error {
	if !d.NextArg() || d.Val() != "http" {
		return d.Errf("%s: expected http, perhaps with a block", name)
	}
	module, err := caddyfile.UnmarshalModule(d, "http.reverse_proxy.transport.http")
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	transport, ok := module.(*reverseproxy.HTTPTransport)
	if !ok {
		return d.Errf("%s: the module http is no HTTP transport", name)
	}
	c.TransportRaw = caddyconfig.JSONModuleObject(transport, "protocol", "http", nil)
	return nil
}

func (c *Config) unmarshalReconcile(d *caddyfile.Dispenser, name string) error {
	if d.NextArg() {
		return d.Errf("%s: unexpected value '%s': expected a block", name, show(d.Val()))
	}
	c.Reconcile = new(Reconcile)
	seen := make(option.Seen)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := seen.Once(d, name+" ", d.Val()); err != nil {
			return err
		}
		var err error
		switch part := name + " " + d.Val(); d.Val() {
		case "after":
			err = option.Duration(d, part, &c.Reconcile.After)
		case "every":
			err = option.Duration(d, part, &c.Reconcile.Every)
		case "give_up":
			err = option.Duration(d, part, &c.Reconcile.GiveUp)
		default:
			err = d.Errf("%s: unknown option '%s': expected after, every or give_up", name, show(d.Val()))
		}
		if err != nil {
			return err
		}
	}
	if len(seen) == 0 {
		return d.Errf("%s: empty block: expected after, every or give_up, or no reconcile", name)
	}
	return nil
}

// show cuts what may be a key that stands at the wrong place.
func show(text string) string {
	const most = 8
	if len(text) > 3*most {
		return text[:most] + "…"
	}
	return text
}

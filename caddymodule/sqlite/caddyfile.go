package sqlite

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
)

// UnmarshalCaddyfile sets up the inbox from Caddyfile tokens. Syntax:
//
//	inbox sqlite [<path>] {
//		max_size <size>
//	}
//
// A size is a number with an optional unit, such as 500MB or 10GiB.
func (i *Inbox) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume module name
	if d.NextArg() {
		i.Path = d.Val()
		if i.Path == "" {
			return d.Err("inbox sqlite: bad value '' for the path: expected the path of a file")
		}
	}
	if d.NextArg() {
		return d.Errf("inbox sqlite: unexpected argument '%s': expected at most one, the path of a file", d.Val())
	}
	for d.NextBlock(0) {
		switch option := d.Val(); option {
		case "max_size":
			if i.MaxSize != 0 {
				return d.Errf("inbox sqlite: %s is given more than once: expected one", option)
			}
			if err := caddymodule.Size(d, "inbox sqlite", &i.MaxSize); err != nil {
				return err
			}
		default:
			return d.Errf("inbox sqlite: unknown option '%s': expected max_size", option)
		}
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Inbox)(nil)

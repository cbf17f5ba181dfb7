package sqlite

import (
	"math"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
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
			size, err := parseSize(d, option)
			if err != nil {
				return err
			}
			i.MaxSize = size
		default:
			return d.Errf("inbox sqlite: unknown option '%s': expected max_size", option)
		}
	}
	return nil
}

// parseSize reads the option's one argument, a size above zero in bytes.
func parseSize(d *caddyfile.Dispenser, option string) (int64, error) {
	const expected = "expected one size, such as 500MB or 10GiB"
	args := d.RemainingArgs()
	if len(args) != 1 {
		return 0, d.Errf("inbox sqlite: %s has %d arguments: %s", option, len(args), expected)
	}
	if d.NextBlock(1) {
		return 0, d.Errf("inbox sqlite: %s has a block: %s", option, expected)
	}
	size, err := humanize.ParseBytes(args[0])
	if err != nil || size == 0 || size > math.MaxInt64 {
		return 0, d.Errf("inbox sqlite: bad value '%s' for %s: %s", args[0], option, expected)
	}
	return int64(size), nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Inbox)(nil)

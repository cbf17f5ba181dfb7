package caddymodule

import (
	"math"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// Arguments returns the n arguments of the option at which d stands, which must
// have no block. Errors begin with the name of the module, such as "inbox
// sqlite".
func Arguments(d *caddyfile.Dispenser, module string, n int, expected string) ([]string, error) {
	option := d.Val()
	args := d.RemainingArgs()
	if len(args) != n {
		return nil, d.Errf("%s: %s has %d arguments: expected %s", module, option, len(args), expected)
	}
	if d.NextBlock(1) {
		return nil, d.Errf("%s: %s has a block: expected %s", module, option, expected)
	}
	return args, nil
}

// Argument passes the one argument of the option at which d stands to parse,
// which reports whether the value is valid.
func Argument(d *caddyfile.Dispenser, module, expected string, parse func(value string) bool) error {
	option := d.Val()
	args, err := Arguments(d, module, 1, expected)
	if err != nil {
		return err
	}
	if !parse(args[0]) {
		return d.Errf("%s: bad value '%s' for %s: expected %s", module, args[0], option, expected)
	}
	return nil
}

// Size sets size to the one argument of the option at which d stands, a size in
// bytes above zero.
func Size(d *caddyfile.Dispenser, module string, size *int64) error {
	return Argument(d, module, "one size, such as 500MB or 10GiB", func(value string) bool {
		n, err := humanize.ParseBytes(value)
		if err != nil || n == 0 || n > math.MaxInt64 {
			return false
		}
		*size = int64(n)
		return true
	})
}

// Package option parses the options of a directive's block in a Caddyfile. Its errors
// begin with the name of the option, say what was found and what is expected, and end
// with the place.
package option

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// Seen are the options that a block has had so far.
type Seen map[string]bool

// Once records an option, whose name in errors begins with a prefix. A second time is an
// error, unless the option is one of the repeatable ones.
func (s Seen) Once(d *caddyfile.Dispenser, prefix, option string, repeatable ...string) error {
	if s[option] {
		if slices.Contains(repeatable, option) {
			return nil
		}
		return d.Errf("%s%s: given twice: expected at most once", prefix, option)
	}
	s[option] = true
	return nil
}

// One parses an option that has exactly one value and no block.
func One(d *caddyfile.Dispenser, option, expected string, parse func(string) error) error {
	args := d.RemainingArgs()
	if len(args) != 1 {
		return d.Errf("%s: %d values: expected one, %s", option, len(args), expected)
	}
	if err := parse(args[0]); err != nil {
		return d.Errf("%s: '%s': %v", option, args[0], err)
	}
	return NoBlock(d, option)
}

// Some parses an option that has at least one value and no block.
func Some(d *caddyfile.Dispenser, option, expected string, to *[]string) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Errf("%s: no value: expected %s", option, expected)
	}
	*to = append(*to, args...)
	return NoBlock(d, option)
}

// NoBlock returns an error if a block begins.
func NoBlock(d *caddyfile.Dispenser, option string) error {
	if d.NextBlock(d.Nesting()) {
		return d.Errf("%s: unexpected block", option)
	}
	return nil
}

// Duration parses an option whose value is a duration above zero.
func Duration(d *caddyfile.Dispenser, option string, to *caddy.Duration) error {
	return One(d, option, "a duration, such as 30s or 7d", func(s string) error {
		parsed, err := caddy.ParseDuration(s)
		if err != nil || parsed <= 0 {
			return errors.New("expected a duration above zero, such as 30s or 7d")
		}
		*to = caddy.Duration(parsed)
		return nil
	})
}

// Size parses an option whose value is a number of bytes above zero.
func Size(d *caddyfile.Dispenser, option string, to *int64) error {
	return One(d, option, "a size, such as 1MiB", func(s string) error {
		parsed, err := humanize.ParseBytes(s)
		if err != nil || parsed == 0 || parsed > 1<<62 {
			return errors.New("expected a size above zero, such as 1MiB")
		}
		*to = int64(parsed)
		return nil
	})
}

// Rate parses an option whose value is a number a second within limits, such as 0.5/s.
// Errors have the example.
func Rate(d *caddyfile.Dispenser, option, example string, least, most float64, to *float64) error {
	return One(d, option, "a number a second, such as "+example, func(s string) error {
		number, perSecond := strings.CutSuffix(s, "/s")
		n, err := strconv.ParseFloat(number, 64)
		if !perSecond || err != nil || !(n >= least && n <= most) { // which NaN is not either
			return fmt.Errorf("expected %s to %s a second, such as %s or 0.5/s",
				strconv.FormatFloat(least, 'f', -1, 64), strconv.FormatFloat(most, 'f', -1, 64), example)
		}
		*to = n
		return nil
	})
}

// Count parses a whole number above zero.
func Count(s string, to *int) error {
	n, err := strconv.Atoi(s)
	if err != nil || n <= 0 {
		return errors.New("expected a whole number above zero")
	}
	*to = n
	return nil
}

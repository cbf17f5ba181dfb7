package fotorwebhook

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(FotorIPRange{})
}

// fotorAddresses is Fotor's published list, with its source and date in the file.
//
//go:embed fotor_addresses.json
var fotorAddresses []byte

// FotorIPRange provides the addresses from which Fotor sends its callbacks, as
// Fotor publishes them at https://docs.fotor.com/webhook. The list is built in:
// it is as old as this module's release, and `allow` can extend or replace it.
type FotorIPRange struct {
	ranges []netip.Prefix
}

// CaddyModule returns the Caddy module information.
func (FotorIPRange) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.ip_sources.fotor",
		New: func() caddy.Module { return new(FotorIPRange) },
	}
}

// Provision reads the built-in list.
func (s *FotorIPRange) Provision(caddy.Context) error {
	var list struct {
		Addresses []string `json:"addresses"`
	}
	if err := json.Unmarshal(fotorAddresses, &list); err != nil {
		return fmt.Errorf("the built-in list of Fotor's addresses: %w", err)
	}
	ranges, err := parseRanges(list.Addresses)
	if err != nil {
		return fmt.Errorf("the built-in list of Fotor's addresses: %w", err)
	}
	s.ranges = ranges
	return nil
}

// GetIPRanges returns Fotor's addresses.
func (s *FotorIPRange) GetIPRanges(*http.Request) []netip.Prefix {
	return s.ranges
}

// UnmarshalCaddyfile sets up the source from Caddyfile tokens. Syntax:
//
//	fotor
func (s *FotorIPRange) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume source name
	if d.NextArg() {
		return d.ArgErr()
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("the IP source fotor has no option '%s'", d.Val())
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner       = (*FotorIPRange)(nil)
	_ caddyfile.Unmarshaler   = (*FotorIPRange)(nil)
	_ caddyhttp.IPRangeSource = (*FotorIPRange)(nil)
)

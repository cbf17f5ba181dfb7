package fotorwebhook

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// The words that an `allow` list may hold beside addresses and ranges.
const (
	allowFotor   = "fotor"
	allowPrivate = "private_ranges"
)

// Why a caller is refused.
var (
	errNotWhitelisted = errors.New("address is not whitelisted")
	errNoAddress      = errors.New("address cannot be determined")
	errInvalidEntry   = errors.New("address cannot be determined: where a proxy's header should have it is something else")
)

// whitelist decides who may call: the addresses that one of its rules contains. Without
// rules that is nobody.
type whitelist []rule

// rule is one entry of `allow` or `allow_from`.
type rule struct {
	option, value string
	ranges        []netip.Prefix
	source        caddyhttp.IPRangeSource // of the ranges, if not nil
}

func (h *Handler) provisionWhitelist(ctx caddy.Context) error {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	h.server = server
	h.proxies = &proxyCheck{lenient: ok && server.TrustedProxiesStrict == 0}

	for _, entry := range h.Allow {
		rule, err := allowRule(ctx, entry)
		if err != nil {
			return err
		}
		h.whitelist = append(h.whitelist, rule)
	}
	if len(h.AllowFromRaw) == 0 {
		return nil
	}
	sources, err := ctx.LoadModule(h, "AllowFromRaw")
	if err != nil {
		return fmt.Errorf("allow_from: %w", err)
	}
	for _, source := range sources.([]any) {
		name := "unknown"
		if module, ok := source.(caddy.Module); ok {
			name = module.CaddyModule().ID.Name()
		}
		h.whitelist = append(h.whitelist, rule{option: "allow_from", value: name, source: source.(caddyhttp.IPRangeSource)})
	}
	return nil
}

func allowRule(ctx caddy.Context, entry string) (rule, error) {
	allow := rule{option: "allow", value: entry}
	expressions := []string{entry}
	switch entry {
	case allowFotor:
		source, err := ctx.LoadModuleByID("http.ip_sources.fotor", nil)
		if err != nil {
			return allow, fmt.Errorf("allow fotor: %w", err)
		}
		allow.source = source.(caddyhttp.IPRangeSource)
		return allow, nil
	case allowPrivate:
		expressions = caddyhttp.PrivateRangesCIDR()
	}
	ranges, err := parseRanges(expressions)
	if err != nil {
		return allow, fmt.Errorf("allow: %w; expected fotor, private_ranges, an IP address or a CIDR range", err)
	}
	allow.ranges = ranges
	return allow, nil
}

// checkCaller returns the caller's address, and an error if it may not call. The
// address is the zero value if it cannot be determined.
func (h *Handler) checkCaller(r *http.Request) (netip.Addr, error) {
	if _, found := h.proxies.invalidEntry(r); found {
		return netip.Addr{}, errInvalidEntry
	}
	return h.whitelist.check(r)
}

// check is checkCaller for the client that Caddy has found.
func (wl whitelist) check(r *http.Request) (netip.Addr, error) {
	addr, err := netip.ParseAddr(clientAddress(r))
	if err != nil {
		return netip.Addr{}, errNoAddress
	}
	addr = plainAddr(addr)
	if _, _, ok := wl.find(r, addr); !ok {
		return addr, errNotWhitelisted
	}
	return addr, nil
}

// find returns the first rule that contains a plain address, and the range of the rule.
func (wl whitelist) find(r *http.Request, addr netip.Addr) (*rule, netip.Prefix, bool) {
	for i := range wl {
		ranges := wl[i].ranges
		if wl[i].source != nil {
			ranges = wl[i].source.GetIPRanges(r)
		}
		if prefix, ok := rangeOf(ranges, addr); ok {
			return &wl[i], prefix, true
		}
	}
	return nil, netip.Prefix{}, false
}

// moduleNames lists the modules of `allow_from`.
func (wl whitelist) moduleNames() []string {
	names := []string{}
	for _, rule := range wl {
		if rule.option == "allow_from" {
			names = append(names, rule.value)
		}
	}
	return names
}

// plainAddr makes addresses comparable: without the zone of an IPv6 address, and not in
// the IPv6 form of an IPv4 address.
func plainAddr(addr netip.Addr) netip.Addr {
	return addr.Unmap().WithZone("")
}

// rangeOf returns the range that contains a plain address. Ranges may be written in the
// IPv6 form of IPv4 (::ffff:192.0.2.0/120).
func rangeOf(ranges []netip.Prefix, addr netip.Addr) (netip.Prefix, bool) {
	for _, prefix := range ranges {
		if plain := plainPrefix(prefix); plain.Contains(addr) {
			return plain, true
		}
	}
	return netip.Prefix{}, false
}

// plainPrefix turns a range of IPv4-mapped IPv6 addresses into the IPv4 range
// that it means.
func plainPrefix(prefix netip.Prefix) netip.Prefix {
	const mappedBits = 96
	if prefix.Addr().Is4In6() && prefix.Bits() >= mappedBits {
		return netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-mappedBits)
	}
	return prefix
}

func parseRanges(expressions []string) ([]netip.Prefix, error) {
	ranges := make([]netip.Prefix, 0, len(expressions))
	for _, expression := range expressions {
		if strings.Contains(expression, "%") {
			// Caddy drops a zone silently, and so would let in more than is written
			return nil, fmt.Errorf("'%s' has a zone", expression)
		}
		prefix, err := caddyhttp.CIDRExpressionToPrefix(expression)
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, prefix)
	}
	return ranges, nil
}

package fotorwebhook

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// The words that an `allow` list may hold beside addresses and ranges.
const (
	allowFotor   = "fotor"
	allowPrivate = "private_ranges"
)

// Why a caller is refused. They are bounded, because they label a metric.
var (
	errNotWhitelisted = errors.New("address is not whitelisted")
	errNoAddress      = errors.New("address cannot be determined")
)

// whitelist decides who may call. Its zero value lets nobody in.
type whitelist struct {
	static  []netip.Prefix
	sources []caddyhttp.IPRangeSource
}

func (h *Handler) provisionWhitelist(ctx caddy.Context) error {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	h.proxies = &proxyCheck{lenient: ok && server.TrustedProxiesStrict == 0}

	var ranges []string
	for _, entry := range h.Allow {
		switch entry {
		case allowFotor:
			source, err := ctx.LoadModuleByID("http.ip_sources.fotor", nil)
			if err != nil {
				return fmt.Errorf("allow fotor: %w", err)
			}
			h.whitelist.sources = append(h.whitelist.sources, source.(caddyhttp.IPRangeSource))
		case allowPrivate:
			ranges = append(ranges, caddyhttp.PrivateRangesCIDR()...)
		default:
			ranges = append(ranges, entry)
		}
	}
	static, err := parseRanges(ranges)
	if err != nil {
		return fmt.Errorf("allow: %w; expected fotor, private_ranges, an IP address or a CIDR range", err)
	}
	h.whitelist.static = static

	if len(h.AllowFromRaw) == 0 {
		return nil
	}
	sources, err := ctx.LoadModule(h, "AllowFromRaw")
	if err != nil {
		return fmt.Errorf("allow_from: %w", err)
	}
	for _, source := range sources.([]any) {
		h.whitelist.sources = append(h.whitelist.sources, source.(caddyhttp.IPRangeSource))
	}
	return nil
}

// judge returns the caller's address, and an error if it may not call. The
// address is invalid if it cannot be determined.
func (wl *whitelist) judge(r *http.Request) (netip.Addr, error) {
	clientIP, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	addr, err := netip.ParseAddr(clientIP)
	if err != nil {
		return netip.Addr{}, errNoAddress
	}
	addr = plainAddr(addr)
	if containsAddr(wl.static, addr) {
		return addr, nil
	}
	for _, source := range wl.sources {
		if containsAddr(source.GetIPRanges(r), addr) {
			return addr, nil
		}
	}
	return addr, errNotWhitelisted
}

// proxyCheck notices a setting with which a whitelist protects nothing: unless
// trusted_proxies_strict is on, Caddy believes the leftmost address of a
// header that a proxy may only have appended to.
type proxyCheck struct {
	lenient bool
	once    sync.Once
}

func (c *proxyCheck) check(r *http.Request, logger *zap.Logger) {
	if !c.lenient {
		return
	}
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		c.once.Do(func() {
			logger.Warn("a trusted proxy's header is believed from its left end, where a caller can write any address;"+
				" set trusted_proxies_strict unless the proxy replaces the header", zap.String("peer", r.RemoteAddr))
		})
	}
}

// plainAddr removes what keeps one address from being compared with another:
// the zone of an IPv6 address and the IPv6 form of an IPv4 one.
func plainAddr(addr netip.Addr) netip.Addr {
	return addr.Unmap().WithZone("")
}

// containsAddr reports whether a plain address is in one of the ranges, which
// may be written in the IPv6 form of IPv4 (::ffff:192.0.2.0/120).
func containsAddr(ranges []netip.Prefix, addr netip.Addr) bool {
	for _, prefix := range ranges {
		if plainPrefix(prefix).Contains(addr) {
			return true
		}
	}
	return false
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
			// it would be dropped silently, and let in more than it says
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

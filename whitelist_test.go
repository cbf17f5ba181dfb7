package fotorwebhook

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// check provisions a whitelist from an allow list and checks a client IP, as Caddy's
// server sets it.
func check(t *testing.T, allow []string, clientIP string) (netip.Addr, error) {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	h := &Handler{Allow: allow}
	require.NoError(t, h.provisionWhitelist(ctx))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
	vars := map[string]any{caddyhttp.ClientIPVarKey: clientIP}
	r = r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, vars))
	return h.whitelist.check(r)
}

func TestWhitelistChecksAddresses(t *testing.T) {
	tests := map[string]struct {
		allow    []string
		clientIP string
		want     error
	}{
		"Fotor's first address":                {[]string{"fotor"}, "54.212.95.175", nil},
		"Fotor's second address":               {[]string{"fotor"}, "44.236.127.35", nil},
		"a neighbour of Fotor's":               {[]string{"fotor"}, "54.212.95.174", errNotWhitelisted},
		"Fotor's address is not in others":     {[]string{"192.0.2.1"}, "54.212.95.175", errNotWhitelisted},
		"Fotor's address as mapped IPv6":       {[]string{"fotor"}, "::ffff:54.212.95.175", nil},
		"a single IPv4 address":                {[]string{"192.0.2.1"}, "192.0.2.1", nil},
		"an IPv4 range":                        {[]string{"192.0.2.0/24"}, "192.0.2.255", nil},
		"outside an IPv4 range":                {[]string{"192.0.2.0/24"}, "192.0.3.0", errNotWhitelisted},
		"a range written as mapped IPv6":       {[]string{"::ffff:192.0.2.0/120"}, "192.0.2.9", nil},
		"outside a range as mapped IPv6":       {[]string{"::ffff:192.0.2.0/120"}, "192.0.3.9", errNotWhitelisted},
		"a bare IPv6 address":                  {[]string{"2001:db8::1"}, "2001:db8::1", nil},
		"a bare IPv6 address is not its /32":   {[]string{"2001:db8::1"}, "2001:db8::2", errNotWhitelisted},
		"an IPv6 range":                        {[]string{"2001:db8::/64"}, "2001:db8::ffff", nil},
		"an IPv6 address with a zone":          {[]string{"fe80::/10"}, "fe80::1%eth0", nil},
		"private ranges":                       {[]string{"private_ranges"}, "10.1.2.3", nil},
		"loopback is private":                  {[]string{"private_ranges"}, "127.0.0.1", nil},
		"public is not private":                {[]string{"private_ranges"}, "8.8.8.8", errNotWhitelisted},
		"all of IPv4 is not IPv6":              {[]string{"0.0.0.0/0"}, "2001:db8::1", errNotWhitelisted},
		"all of IPv6 is not IPv4":              {[]string{"::/0"}, "192.0.2.1", errNotWhitelisted},
		"all of IPv6 is not mapped IPv4":       {[]string{"::/0"}, "::ffff:192.0.2.1", errNotWhitelisted},
		"no address":                           {[]string{"0.0.0.0/0", "::/0"}, "", errNoAddress},
		"a Unix socket's peer":                 {[]string{"0.0.0.0/0", "::/0"}, "@", errNoAddress},
		"a name":                               {[]string{"0.0.0.0/0", "::/0"}, "localhost", errNoAddress},
		"an address with a port":               {[]string{"0.0.0.0/0", "::/0"}, "192.0.2.1:80", errNoAddress},
		"an address with spaces":               {[]string{"0.0.0.0/0", "::/0"}, " 192.0.2.1", errNoAddress},
		"an octal look-alike of a listed one":  {[]string{"192.0.2.8"}, "192.0.2.010", errNoAddress},
		"a header list instead of one address": {[]string{"192.0.2.1"}, "192.0.2.1, 192.0.2.2", errNoAddress},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			addr, err := check(t, test.allow, test.clientIP)
			require.ErrorIs(t, err, test.want)
			if test.want == nil {
				assert.False(t, addr.Is4In6(), "the address is plain")
				assert.Empty(t, addr.Zone())
			}
		})
	}
}

func TestInvalidAllowEntriesAreErrors(t *testing.T) {
	for _, entry := range []string{"", "Fotor", "192.0.2.256", "192.0.2.0/33", "example.com", "fe80::1%eth0", "{env.NOT_REPLACED}"} {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		h := &Handler{Allow: []string{"192.0.2.1", entry}}
		err := h.provisionWhitelist(ctx)
		cancel()
		assert.ErrorContains(t, err, "allow: ", "entry %q", entry)
	}
}

func TestEmptyWhitelistLetsNobodyIn(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
	_, err := new(whitelist).check(r)
	require.ErrorIs(t, err, errNoAddress, "a request that Caddy has not prepared")
	_, err = check(t, nil, "127.0.0.1")
	require.ErrorIs(t, err, errNotWhitelisted)
}

package fotorwebhook

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// lenientProxies is the warning of a proxyCheck.
const lenientProxies = "a trusted proxy's header is believed from its left end, where a caller can write any address;" +
	" set trusted_proxies_strict unless the proxy replaces the header"

// proxyCheck notices a setting with which a whitelist protects nothing: unless
// trusted_proxies_strict is on, Caddy believes the leftmost address of a
// header that a proxy may only have appended to.
type proxyCheck struct {
	lenient bool
	once    sync.Once
}

func (c *proxyCheck) check(r *http.Request, logger *zap.Logger) {
	if c.lenient && isTrustedProxy(r) {
		c.once.Do(func() {
			logger.Warn(lenientProxies, zap.String("peer", r.RemoteAddr))
		})
	}
}

func isTrustedProxy(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// doubt returns an entry of the proxies' headers that stands where the client's
// address is expected and is none, such as "unknown" or nothing at all. Caddy
// passes it over and takes another entry for the client, which anybody may have
// written, or the proxy itself.
func (c *proxyCheck) doubt(r *http.Request) (entry string, found bool) {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server == nil || !isTrustedProxy(r) {
		return "", false
	}
	for _, name := range server.ClientIPHeaders {
		values := r.Header.Values(name)
		if len(values) == 0 {
			continue
		}
		entries := strings.Split(strings.Join(values, ","), ",")
		if c.lenient { // the first entry of all decides
			_, ok := entryAddr(entries[0])
			return entries[0], !ok
		}
		client, peer := clientAddress(r), peerAddress(r)
		for _, entry := range slices.Backward(entries) {
			addr, ok := entryAddr(entry)
			if !ok {
				return entry, true
			}
			if text := addr.String(); text == client && text != peer {
				return "", false
			}
			// it is a trusted proxy's: the one before it is nearer to the client
		}
	}
	return "", false
}

// entryAddr reads an entry of a header as Caddy's server does: with or without a
// port and a zone.
func entryAddr(entry string) (netip.Addr, bool) {
	host, _, err := net.SplitHostPort(entry)
	if err != nil {
		host = entry
	}
	host, _, _ = strings.Cut(strings.TrimSpace(host), "%")
	addr, err := netip.ParseAddr(host)
	return addr, err == nil
}

// peerAddress is the other end of the connection, as Caddy writes addresses; ""
// if it is none.
func peerAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	host, _, _ = strings.Cut(host, "%")
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	return addr.String()
}

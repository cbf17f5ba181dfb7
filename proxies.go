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

// lenientWarning is the warning of a proxyCheck.
const lenientWarning = "a trusted proxy's header is believed from its left end, where a caller can write any address;" +
	" set trusted_proxies_strict unless the proxy replaces the header"

// proxyCheck checks what trusted proxies say about the client. Unless
// trusted_proxies_strict is on, Caddy believes the leftmost address of a header, which
// the caller itself may have written: then the whitelist protects nothing.
type proxyCheck struct {
	lenient bool
	once    sync.Once
}

// warn logs, once, that a trusted proxy's header is believed from its left end.
func (c *proxyCheck) warn(r *http.Request, logger *zap.Logger) {
	if c.lenient && isTrustedProxy(r) {
		c.once.Do(func() {
			logger.Warn(lenientWarning, zap.String("peer", r.RemoteAddr))
		})
	}
}

func isTrustedProxy(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// invalidEntry returns the entry of the proxies' headers where the client's address
// should be, if it is no address, such as "unknown" or "". Caddy skips it and takes for
// the client another entry, which anybody may have written, or the proxy.
func (c *proxyCheck) invalidEntry(r *http.Request) (entry string, found bool) {
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
			// a trusted proxy's address: the client's is further left
		}
	}
	return "", false
}

// entryAddr parses an entry of a header as Caddy's server does: it ignores a port and
// a zone.
func entryAddr(entry string) (netip.Addr, bool) {
	host, _, err := net.SplitHostPort(entry)
	if err != nil {
		host = entry
	}
	host, _, _ = strings.Cut(strings.TrimSpace(host), "%")
	addr, err := netip.ParseAddr(host)
	return addr, err == nil
}

// peerAddress returns the address of the connection's other end, as Caddy writes
// addresses; "" if there is none.
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

package fotorwebhook

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/dryrun"
)

// maxHops bounds how many addresses of a header are explained one by one.
const maxHops = 32

// explain reports whether a caller would be let in, and why. Caddy's own code finds the
// client's address, from a request that is made up for it. For the steps, it is run
// again on each address of the header alone.
func (h *Handler) explain(peer netip.Addr, forwardedFor string) control.Explanation {
	q := &query{Handler: h, peer: peer, forwardedFor: forwardedFor}
	r := q.request(peer, forwardedFor)
	e := control.Explanation{
		IP:           peer.String(),
		ForwardedFor: forwardedFor,
		TrustedProxy: isTrustedProxy(r),
		ClientIP:     clientAddress(r),
		Warnings:     []string{},
	}
	if _, found := h.proxies.invalidEntry(r); found {
		e.ClientIP = ""
	}
	q.step("the connection comes from %s", peer)
	if e.TrustedProxy {
		q.explainProxy(e.ClientIP)
		if h.proxies.lenient {
			e.Warnings = append(e.Warnings, lenientWarning)
		}
	} else {
		q.explainDirect()
	}
	e.Allowed, e.Rule = q.explainVerdict(r)
	e.Steps = q.steps
	return e
}

// query is the caller to explain, and the steps of the explanation so far.
type query struct {
	*Handler
	peer         netip.Addr
	forwardedFor string
	steps        []string
}

func (q *query) step(format string, args ...any) {
	q.steps = append(q.steps, fmt.Sprintf(format, args...))
}

// httpServer returns the handler's server. If there is none, no proxy is trusted.
func (q *query) httpServer() *caddyhttp.Server {
	if q.server != nil {
		return q.server
	}
	return new(caddyhttp.Server)
}

// header returns the name of the header with the addresses that proxies forward for.
func (q *query) header() string {
	if headers := q.httpServer().ClientIPHeaders; len(headers) > 0 {
		return headers[0]
	}
	return "X-Forwarded-For"
}

// request returns the request of a caller, as Caddy's server prepares it.
func (q *query) request(peer netip.Addr, forwardedFor string) *http.Request {
	r := &http.Request{
		Method:     http.MethodPost,
		URL:        &url.URL{Path: "/"},
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     make(http.Header),
		RemoteAddr: net.JoinHostPort(peer.String(), "1"),
	}
	if forwardedFor != "" {
		r.Header.Set(q.header(), forwardedFor)
	}
	ctx := context.WithValue(context.Background(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	_, prepared := dryrun.Prepare(r.WithContext(ctx), q.httpServer())
	return prepared
}

func (q *query) explainDirect() {
	q.step("%s is none of the server's trusted_proxies, so the client is %s itself", q.peer, q.peer)
	if q.forwardedFor != "" {
		q.step("what it says in %s is not believed", q.header())
	}
}

// explainProxy adds the steps that find the client behind a trusted proxy.
func (q *query) explainProxy(clientIP string) {
	q.step("%s is one of the server's trusted_proxies, so its %s is believed", q.peer, q.header())
	if q.forwardedFor == "" {
		q.step("there is no such header, so the client is %s itself", q.peer)
		return
	}
	hops := strings.Split(q.forwardedFor, ",")
	if q.proxies.lenient {
		q.step("it is read from the left end, where the first address is the client (trusted_proxies_strict is off)")
	} else {
		q.step("it is read from the right end, where the first address that is no trusted proxy is the client (trusted_proxies_strict is on)")
		slices.Reverse(hops)
	}
	if slices.ContainsFunc(hops[:min(len(hops), maxHops)], q.explainHop) {
		return
	}
	if len(hops) <= maxHops {
		q.step("no other address is left, so the client is %s", clientIP)
	}
}

// explainHop adds the step of one entry of the header, and reports whether the search
// ends there.
func (q *query) explainHop(hop string) bool {
	addr, ok := entryAddr(hop)
	switch {
	case !ok:
		q.step("%.64q is no address, so nobody can tell who the client is", strings.TrimSpace(hop))
		return true
	case !q.proxies.lenient && isTrustedProxy(q.request(addr, "")):
		q.step("%s is a trusted proxy: passed over", addr)
		return false
	default:
		q.step("%s is the client", addr)
		return true
	}
}

// explainVerdict checks the caller as admit does.
func (q *query) explainVerdict(r *http.Request) (allowed bool, rule *control.Rule) {
	addr, err := q.checkCaller(r)
	if err != nil {
		q.step("refused: the %v", err)
		return false, nil
	}
	found, prefix, ok := q.whitelist.find(r, addr)
	if !ok { // an IP source has changed meanwhile
		q.step("refused: the %v", errNotWhitelisted)
		return false, nil
	}
	q.step("let in: %s has it (%s %s)", prefix, found.option, found.value)
	return true, &control.Rule{Option: found.option, Value: found.value, Range: prefix.String()}
}

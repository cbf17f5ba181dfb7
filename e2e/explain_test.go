package e2e

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

func (g *gateway) explain(ip, forwardedFor string) control.Explanation {
	g.t.Helper()
	query := url.Values{"ip": {ip}}
	if forwardedFor != "" {
		query.Set("forwarded_for", forwardedFor)
	}
	return ask[control.Explanation](g, http.MethodGet, "default/explain?"+query.Encode(), "")
}

const explained = "allow fotor\nallow 192.0.2.0/24\nallow private_ranges\nallow_from static 198.51.100.0/24 2001:db8::/32"

func TestExplainDirectCallers(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL+"\n"+explained, "", quiet)
	for ip, rule := range map[string]*control.Rule{
		"54.212.95.175":   {Option: "allow", Value: "fotor", Range: "54.212.95.175/32"},
		"192.0.2.77":      {Option: "allow", Value: "192.0.2.0/24", Range: "192.0.2.0/24"},
		"10.1.2.3":        {Option: "allow", Value: "private_ranges", Range: "10.0.0.0/8"},
		"198.51.100.1":    {Option: "allow_from", Value: "static", Range: "198.51.100.0/24"},
		"2001:db8::1":     {Option: "allow_from", Value: "static", Range: "2001:db8::/32"},
		"::ffff:10.1.2.3": {Option: "allow", Value: "private_ranges", Range: "10.0.0.0/8"},
		"203.0.113.1":     nil,
		"2001:db9::1":     nil,
	} {
		e := g.explain(ip, "54.212.95.175")
		assert.Equal(t, rule, e.Rule, ip)
		assert.Equal(t, rule != nil, e.Allowed, ip)
		assert.False(t, e.TrustedProxy, ip)
		assert.Equal(t, ip, e.IP)
		assert.Contains(t, strings.Join(e.Steps, "\n"), "what it says in X-Forwarded-For is not believed", ip)
		assert.Empty(t, e.Warnings, ip)
	}
}

// The explanation agrees with what happens to the same caller.
func TestExplainProxiedCallers(t *testing.T) {
	up := newUpstream(t, nil)
	for name, strict := range map[string]bool{"strict": true, "lenient": false} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t)
			servers := "servers {\ntrusted_proxies static 127.0.0.1 10.0.0.0/8\n"
			if strict {
				servers += "trusted_proxies_strict\n"
			}
			g.Start("forward "+up.URL+"\nallow fotor 127.0.0.1", "", servers+"}\n"+quiet)
			const fotor = "54.212.95.175"
			for forwardedFor, client := range map[string]struct{ strict, lenient string }{
				fotor:                                  {fotor, fotor},
				"203.0.113.9":                          {"203.0.113.9", "203.0.113.9"},
				fotor + ", 203.0.113.9":                {"203.0.113.9", fotor}, // spoofed
				fotor + ", 10.0.0.1":                   {fotor, fotor},
				"203.0.113.9, " + fotor + ", 10.0.0.2": {fotor, "203.0.113.9"},
				"10.0.0.1, 10.0.0.2":                   {"127.0.0.1", "10.0.0.1"},
				"unknown, " + fotor + ":443":           {fotor, ""},
				"nonsense":                             {"", ""},
				fotor + ", unknown":                    {"", fotor}, // the caller may have written the first
				fotor + ", unknown, 10.0.0.1":          {"", fotor},
				fotor + ", ":                           {"", fotor},
				fotor + ", [2001:db8::1]":              {"", fotor},
				fotor + ",[2001:db8::1]:443":           {"2001:db8::1", fotor},
				fotor + ", unknown, 127.0.0.1":         {"", fotor},
				", " + fotor:                           {fotor, ""},
				fotor + ", fe80::1%eth0":               {"fe80::1", fotor},
			} {
				want := client.lenient
				if strict {
					want = client.strict
				}
				e := g.explain("127.0.0.1", forwardedFor)
				steps := strings.Join(e.Steps, "\n")
				assert.True(t, e.TrustedProxy, forwardedFor)
				assert.Equal(t, want, e.ClientIP, "%s:\n%s", forwardedFor, steps)
				found := slices.ContainsFunc(e.Steps, func(step string) bool {
					return step == want+" is the client" || strings.HasSuffix(step, "so the client is "+want) ||
						want == "" && strings.HasSuffix(step, "nobody can tell who the client is")
				})
				assert.True(t, found, "%s:\n%s", forwardedFor, steps)
				assert.Equal(t, !strict, len(e.Warnings) == 1, forwardedFor)

				status := g.Post(notice("task", 1), "X-Forwarded-For", forwardedFor).Status
				assert.Equal(t, e.Allowed, status == http.StatusOK, "%s was answered %d", forwardedFor, status)
			}
			e := g.explain("127.0.0.1", "")
			assert.Equal(t, "127.0.0.1", e.ClientIP)
			assert.True(t, e.Allowed, "nobody is spoken for: it is the proxy's own request")
		})
	}
}

// Proxies may use another header.
func TestExplainReadsTheServersHeader(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	g.Start("forward "+up.URL+"\nallow fotor", "",
		"servers {\ntrusted_proxies static 127.0.0.1\ntrusted_proxies_strict\nclient_ip_headers Cf-Connecting-Ip X-Forwarded-For\n}\n"+quiet)
	e := g.explain("127.0.0.1", "54.212.95.175")
	assert.True(t, e.Allowed)
	assert.Contains(t, e.Steps[1], "its Cf-Connecting-Ip is believed")
}

// A header may come in several lines, and there may be several headers.
func TestProxiedCallersThatCannotBeToldAreRefused(t *testing.T) {
	const fotor = "54.212.95.175"
	type lines = map[string][]string
	for name, test := range map[string]struct {
		header lines
		strict bool // let in with trusted_proxies_strict
		left   bool
		proxy  bool // without it, the client is a proxy that is not whitelisted
	}{
		"one address":                {lines{"X-Forwarded-For": {fotor}}, true, true, false},
		"the last line is none":      {lines{"X-Forwarded-For": {fotor, "unknown"}}, false, true, false},
		"the last line is empty":     {lines{"X-Forwarded-For": {fotor, ""}}, false, true, false},
		"the first line is none":     {lines{"X-Forwarded-For": {"unknown", fotor}}, true, false, false},
		"the first header is none":   {lines{"Cf-Connecting-Ip": {"unknown"}, "X-Forwarded-For": {fotor}}, false, false, false},
		"the first header decides":   {lines{"Cf-Connecting-Ip": {fotor}, "X-Forwarded-For": {"unknown"}}, true, true, false},
		"the first is all proxies'":  {lines{"Cf-Connecting-Ip": {"10.0.0.1"}, "X-Forwarded-For": {"unknown"}}, false, false, true},
		"another header is no proof": {lines{"X-Real-Ip": {"unknown"}, "X-Forwarded-For": {fotor}}, true, true, false},
	} {
		for _, strict := range []bool{true, false} {
			up := newUpstream(t, nil)
			g := newGateway(t)
			servers := "servers {\ntrusted_proxies static 127.0.0.1 10.0.0.0/8\nclient_ip_headers Cf-Connecting-Ip X-Forwarded-For\n"
			want := test.left
			if strict {
				servers += "trusted_proxies_strict\n"
				want = test.strict
			}
			g.Start("forward "+up.URL+"\nallow fotor 127.0.0.1", "", servers+"}\n"+quiet)
			r := newRequest(t, g.URL(), strings.NewReader(notice("task", 1)))
			maps.Copy(r.Header, test.header)
			answer := do(t, r)
			if want {
				assert.Equal(t, http.StatusOK, answer.Status, "%s, strict: %t", name, strict)
			} else {
				assert.Equal(t, http.StatusForbidden, answer.Status, "%s, strict: %t", name, strict)
				refusals := ask[control.Handler](g, http.MethodGet, "default", "").Refusals
				if assert.Len(t, refusals, 1, "%s, strict: %t", name, strict) && (strict || !test.proxy) {
					assert.Empty(t, refusals[0].Address)
					assert.Contains(t, refusals[0].Reason, "a proxy's header")
				}
			}
			g.Stop()
		}
	}
}

package main

import (
	"fmt"
	"strings"
)

// callbackPath is the path of the callbacks.
const callbackPath = "/fotor/callback"

// contender is one way of answering the load.
type contender struct {
	key  string
	name string

	// site returns the body of the site block in its Caddyfile.
	site func(p places) string

	// backlog is true if its inbox is filled before the first round, and kept.
	backlog bool

	// stores is true if it has an inbox, delivers if it has to empty it.
	stores, delivers bool

	// destinations is how many destinations take each event; 0 is one. If down is true,
	// there is one more, which cannot be reached.
	destinations int
	down         bool

	// nats is true if its inbox is on a cluster of NATS servers.
	nats bool

	// slow is true if the upstream takes slowAnswer for each event. servers is how many
	// Caddys share the inbox then.
	slow    bool
	servers int

	// operated is true if an operator lists, tails and replays meanwhile.
	operated bool

	// browsers is how many pages of a dashboard are open meanwhile.
	browsers int
}

// manyBrowsers is how many pages are open where some are.
const manyBrowsers = 10

// places are the addresses and files in a contender's Caddyfile.
type places struct {
	upstream string   // host:port
	inbox    string   // file
	nats     []string // URLs of the servers

	// dashboard is where the dashboard listens, for contenders with browsers.
	dashboard string
}

// contenders are those of -inbox sqlite, in the order of each round.
var contenders = []contender{
	{
		key: "a", name: "bare Caddy, `respond 200`",
		site: func(places) string { return "respond 200" },
	},
	{
		key: "b", name: "Caddy `reverse_proxy` to the upstream",
		site: func(p places) string { return "reverse_proxy " + p.upstream },
	},
	{
		key: "c", name: "gateway, accept only (upstream held)", stores: true,
		site: func(p places) string { return p.gateway("forward http://" + p.upstream + heldPath) },
	},
	{
		key: "d", name: "gateway, accept and deliver, `forward <url>`", stores: true, delivers: true,
		site: func(p places) string { return p.gateway("forward http://" + p.upstream + "/") },
	},
	{
		key: "d3", name: "as (d), with three destinations", stores: true, delivers: true, destinations: 3,
		site: func(p places) string { return p.gateway(p.destinations("one", "two", "three")) },
	},
	{
		key: "dd", name: "as (d), with a second destination that is down", stores: true, delivers: true, down: true,
		site: func(p places) string {
			return p.gateway(p.withOneDown())
		},
	},
	{
		key: "do", name: "as (d), while someone lists, tails and replays", stores: true, delivers: true, operated: true,
		site: func(p places) string { return p.gateway("forward http://" + p.upstream + "/") },
	},
	{
		key: "cask", name: "as (c), with `fotor_api`, though no task needs to be asked for", stores: true,
		site: func(p places) string {
			return p.gateway("forward http://" + p.upstream + heldPath + "\n\t\tfotor_api {\n\t\t\tkey any\n\t\t\turl http://" + nowhere + "\n\t\t}")
		},
	},
	{
		key: "cdash", name: "as (c), with a page of the dashboard open in ten browsers", stores: true, browsers: manyBrowsers,
		site: func(p places) string { return p.gateway("forward http://" + p.upstream + heldPath) },
	},
	{
		key: "ddash", name: "as (d), with a page of the dashboard open in ten browsers", stores: true, delivers: true, browsers: manyBrowsers,
		site: func(p places) string { return p.gateway("forward http://" + p.upstream + "/") },
	},
	{
		key: "dr", name: "gateway, accept and deliver, `forward { reverse_proxy … }`", stores: true, delivers: true,
		site: func(p places) string { return p.gateway("forward {\n\t\t\treverse_proxy " + p.upstream + "\n\t\t}") },
	},
	{
		key: "c1m", name: "gateway, accept only, with a backlog", stores: true, backlog: true,
		site: func(p places) string { return p.gateway("forward http://" + p.upstream + heldPath) },
	},
}

// nowhere is an address at which nobody listens.
const nowhere = "127.0.0.1:1"

// destinations returns destinations of these names that all lead to the upstream.
func (p places) destinations(names ...string) string {
	var text strings.Builder
	for _, name := range names {
		fmt.Fprintf(&text, "destination %s {\n\t\t\tforward http://%s/\n\t\t}\n\t\t", name, p.upstream)
	}
	return strings.TrimSpace(text.String())
}

// withOneDown returns the usual destination, and one that cannot be reached.
func (p places) withOneDown() string {
	return "forward http://" + p.upstream + "/\n\t\tdestination down {\n\t\t\tforward http://" + nowhere + "/\n\t\t}"
}

// copies is how many deliveries of each event are expected.
func (c *contender) copies() int64 { return int64(max(c.destinations, 1)) }

// watched is the destination whose deliveries are counted; "" is all of them.
func (c *contender) watched() string {
	if c.down {
		return "default"
	}
	return ""
}

// gateway returns the handler with its defaults, except for who may call and the inbox.
func (p places) gateway(forward string) string {
	return gateway("sqlite "+quote(p.inbox), forward)
}

func gateway(inbox, forward string) string {
	return fmt.Sprintf(`fotor_webhook %s {
		allow 127.0.0.1
		inbox %s
		%s
	}`, callbackPath, inbox, forward)
}

// caddyfile returns a contender's config. All log in the same way, to stderr.
func (c *contender) caddyfile(listen, admin, storage, level string, p places) string {
	text := fmt.Sprintf(`{
	admin %s
	auto_https off
	persist_config off
	storage file_system %s
	log {
		level %s
	}
}

http://%s {
	%s
}
`, admin, quote(storage), level, listen, c.site(p))
	if c.browsers > 0 {
		text += fmt.Sprintf("\nhttp://%s {\n\tfotor_webhook_dashboard {\n\t\tpublic\n\t}\n}\n", p.dashboard)
	}
	return text
}

// quote makes a Caddyfile token of a path that may have spaces.
func quote(path string) string {
	return "`" + path + "`"
}

func contenderByKey(from []contender, key string) (contender, bool) {
	for _, c := range from {
		if c.key == key {
			return c, true
		}
	}
	return contender{}, false
}

func contenderKeys(of []contender) string {
	keys := make([]string, len(of))
	for i, c := range of {
		keys[i] = c.key
	}
	return strings.Join(keys, ",")
}

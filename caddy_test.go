package fotorwebhook

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/configdiff"
)

// validated validates a handler's JSON config as `caddy validate` does.
func validated(t *testing.T, config string) error {
	t.Helper()
	require.True(t, json.Valid([]byte(config)), config)
	var handler map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(config), &handler))
	handler["handler"] = json.RawMessage(`"fotor_webhook"`)
	raw, err := json.Marshal(handler)
	require.NoError(t, err)
	return caddy.Validate(&caddy.Config{
		Admin: &caddy.AdminConfig{Disabled: true},
		AppsRaw: caddy.ModuleMap{
			"http": json.RawMessage(`{"servers":{"srv0":{"listen":["127.0.0.1:0"],"routes":[{"handle":[` + string(raw) + `]}]}}}`),
		},
	})
}

func TestDefaults(t *testing.T) {
	h := new(Handler)
	h.setDefaults()
	assert.Equal(t, "default", h.Name)
	assert.Equal(t, []string{"fotor"}, h.Allow)
	assert.Equal(t, int64(1<<20), h.MaxBody)
	assert.JSONEq(t, `{"module":"sqlite"}`, string(h.InboxRaw))
	assert.Equal(t, 7*24*time.Hour, time.Duration(h.Keep))
	assert.Equal(t, 1000, *h.Quarantine)
	assert.Equal(t, map[string]string{"s3://img-pub-fotor/": "https://pub-static.fotor.com/"}, h.ResultURL)
	assert.Empty(t, h.MapStatus)
	assert.Equal(t, 30*time.Second, time.Duration(h.Timeout))
	assert.Equal(t, 32, h.Concurrency)
	assert.Equal(t, 5*time.Second, time.Duration(h.Retry.First))
	assert.Equal(t, time.Hour, time.Duration(h.Retry.Max))
	assert.Equal(t, 72*time.Hour, time.Duration(h.Retry.GiveUp))
	require.NoError(t, h.Validate())
	require.NoError(t, validated(t, `{"forward":{"url":"http://app/"}}`))
}

func TestAllowFromReplacesTheDefault(t *testing.T) {
	h := &Handler{AllowFromRaw: []json.RawMessage{json.RawMessage(`{"source":"static","ranges":["192.0.2.1"]}`)}}
	h.setDefaults()
	assert.Empty(t, h.Allow)
}

// The rules hold for a JSON config too, which no Caddyfile has checked.
func TestRules(t *testing.T) {
	for config, want := range map[string]string{
		`{}`:                        "forward is missing",
		`{"forward":{}}`:            "forward is missing",
		`{"forward":{"routes":[]}}`: "forward is missing",
		`{"forward":{"url":"http://app/","routes":[]}}`:                                                       "forward has both a URL and routes",
		`{"forward":{"url":"app"}}`:                                                                           `forward: the URL has the scheme ""`,
		`{"name":"a/b","forward":{"url":"http://app/"}}`:                                                      `name "a/b": expected 1 to 64`,
		`{"max_body":100,"forward":{"url":"http://app/"}}`:                                                    "max_body is 100: expected 1024 to 67108864",
		`{"max_body":-1,"forward":{"url":"http://app/"}}`:                                                     "max_body is -1: expected",
		`{"keep":1000,"forward":{"url":"http://app/"}}`:                                                       "keep is 1µs: expected 1m0s to",
		`{"quarantine":-1,"forward":{"url":"http://app/"}}`:                                                   "quarantine is -1: expected 0 to 1000000",
		`{"map_status":{"2":"failed"},"forward":{"url":"http://app/"}}`:                                       "map_status 2: expected a number from 3 to 999",
		`{"map_status":{"3":"timed_out"},"forward":{"url":"http://app/"}}`:                                    `map_status 3 is "timed_out": expected in_progress, completed or failed`,
		`{"result_url":{"s3://b":"https://h/"},"forward":{"url":"http://app/"}}`:                              `result_url "s3://b": the prefix is not what a URL begins with`,
		`{"timeout":-5,"forward":{"url":"http://app/"}}`:                                                      "timeout is -5ns: expected",
		`{"timeout":"2h","forward":{"url":"http://app/"}}`:                                                    "timeout is 2h0m0s: expected",
		`{"concurrency":5000,"forward":{"url":"http://app/"}}`:                                                "concurrency is 5000: expected 1 to 4096",
		`{"retry":{"first":"1h","max":"1m"},"forward":{"url":"http://app/"}}`:                                 "retry max is 1m0s: expected 1h0m0s to",
		`{"retry":{"first":"1h","give_up":"1m"},"forward":{"url":"http://a/"}}`:                               "retry give_up is 1m0s: expected 1h0m0s to",
		`{"allow":["example.com"],"forward":{"url":"http://app/"}}`:                                           "allow: invalid IP address: 'example.com'",
		`{"allow_from":[{"source":"nowhere"}],"forward":{"url":"http://app/"}}`:                               "allow_from: ",
		`{"inbox":{"module":"paper"},"forward":{"url":"http://app/"}}`:                                        "inbox: ",
		`{"sign":["whsec_short"],"forward":{"url":"http://app/"}}`:                                            "sign: secret 1 of 1",
		`{"forwards":1,"forward":{"url":"http://app/"}}`:                                                      `unknown field "forwards"`,
		`{"forward":{"routes":[{"handle":[{"handler":"nonsense"}]}]}}`:                                        "forward: ",
		`{"fotor_api":{},"forward":{"url":"http://app/"}}`:                                                    `fotor_api: key is missing`,
		`{"fotor_api":{"key":"{env.NO_SUCH_VARIABLE}"},"forward":{"url":"http://app/"}}`:                      `fotor_api: key: `,
		`{"fotor_api":{"key":"a b"},"forward":{"url":"http://app/"}}`:                                         `fotor_api: the key of Fotor's API has a space or tab as byte 2 of 3`,
		`{"fotor_api":{"key":"a","url":"ftp://x"},"forward":{"url":"http://app/"}}`:                           `fotor_api: the url of Fotor's API is "ftp://x": expected http or https`,
		`{"fotor_api":{"key":"a","rate":-1},"forward":{"url":"http://app/"}}`:                                 `fotor_api: rate is -1: expected 0.001 to 100 a second`,
		`{"fotor_api":{"key":"a","reconcile":{"after":"1h","give_up":"1h"}},"forward":{"url":"http://app/"}}`: `fotor_api: reconcile give_up is 1h0m0s and after is 1h0m0s: expected give_up to be longer`,
		`{"fotor_api":{"key":"a","reconcile":{"every":"1ms"}},"forward":{"url":"http://app/"}}`:               `fotor_api: reconcile every is 1ms: expected 1s to 24h0m0s`,
		`{"fotor_api":{"key":"a","transport":{"protocol":"fastcgi"}},"forward":{"url":"http://app/"}}`:        `fotor_api: transport: `,
		`{"inbox":{"module":"sqlite","max_size":5},"forward":{"url":"http://a"}}`:                             "max_size",
	} {
		assert.ErrorContains(t, validated(t, config), want, config)
	}
}

func TestRulesOfDestinations(t *testing.T) {
	const handler, ok = `handler "default": `, `"forward":{"url":"http://b/"}`
	staging := func(options string) string { return `{"destinations":{"staging":{` + options + `}}}` }
	many := make([]string, 33)
	for i := range many {
		many[i] = fmt.Sprintf(`"d%d":{%s}`, i, ok)
	}
	for config, want := range map[string]string{
		`{"destinations":{}}`:                                                  "forward is missing",
		`{"destinations":{"a.b":{` + ok + `}}}`:                                handler + `destination "a.b": expected 1 to 64 letters`,
		`{"destinations":{"staging":null}}`:                                    handler + `destination "staging" is null: expected an object`,
		`{"destinations":{` + strings.Join(many, ",") + `}}`:                   handler + "33 destinations: expected at most 32",
		`{"destinations":{"default":{` + ok + `}},` + ok + `}`:                 `both forward and the destination "default"`,
		`{"rate":1,"destinations":{"default":{` + ok + `}}}`:                   "rate without forward, to which it belongs: expected it in a destination",
		`{"rate":-1,` + ok + `}`:                                               handler + "rate is -1 a second: expected 0.001 to 100000",
		`{"timeout":-5,"destinations":{"staging":{` + ok + `}}}`:               handler + "timeout is -5ns: expected",
		`{"retry":{"max":"1m"},` + staging(ok + `,"retry":{"first":"1h"}`)[1:]: "",
		`{"retry":{"first":"1m"},` + staging(ok + `,"retry":{"max":"1s"}`)[1:]: `destination "staging": retry max is 1s: expected 1m0s to`,
		staging(``):                                 handler + `destination "staging": forward is missing`,
		staging(`"forward":{"routes":[]}`):          handler + `destination "staging": forward is missing`,
		staging(`"forward":{}`):                     handler + `destination "staging": forward is missing`,
		staging(`"forward":{"url":"app"}`):          handler + `destination "staging": forward: the URL has the scheme ""`,
		staging(ok + `,"keep":5`):                   `unknown field "keep"`,
		staging(ok + `,"sign":["x"]`):               handler + `destination "staging": sign: secret 1 of 1`,
		staging(ok + `,"timeout":"2h"`):             handler + `destination "staging": timeout is 2h0m0s: expected 1ms to 1h0m0s`,
		staging(ok + `,"concurrency":5000`):         handler + `destination "staging": concurrency is 5000: expected 1 to 4096`,
		staging(ok + `,"rate":0.0001`):              handler + `destination "staging": rate is 0.0001 a second: expected 0.001 to 100000`,
		staging(ok + `,"rate":1e6`):                 handler + `destination "staging": rate is 1e+06 a second: expected`,
		staging(ok + `,"match":{}`):                 handler + `destination "staging": match is empty: expected types, statuses, sensitive or expressions`,
		staging(ok + `,"match":{"type":["a"]}`):     `unknown field "type"`,
		staging(ok + `,"match":{"statuses":["a"]}`): handler + `destination "staging": match status "a": expected in_progress, completed, failed or lost`,
		staging(ok + `,"match":{"expressions":["event.kind == 1"]}`): handler +
			`destination "staging": match expression "event.kind == 1": line 1, column 6: undefined field 'kind'`,
		staging(ok + `,"match":{"expressions":["event.statusCode"]}`): handler +
			`destination "staging": match expression "event.statusCode": it gives int: expected true or false`,
	} {
		err := validated(t, config)
		if want == "" {
			require.NoError(t, err, config)
			continue
		}
		require.ErrorContains(t, err, want, config)
		assert.LessOrEqual(t, strings.Count(err.Error(), "expected"), 1, "one error: %v", err)
	}
}

// A destination has what it does not say from the handler, option by option.
func TestDestinationsInherit(t *testing.T) {
	h := &Handler{
		Forward: &Forward{URL: "http://a/"}, Sign: []string{"s"}, Timeout: 7, Concurrency: 5, Rate: 3,
		Retry: &Retry{First: 2, Max: 50},
		Destinations: map[string]*Destination{
			"plain": {Forward: &Forward{URL: "http://b/"}},
			"own":   {Sign: []string{"t"}, Timeout: 8, Concurrency: 6, Rate: 4, Retry: &Retry{First: 100}},
		},
	}
	h.setDefaults()
	require.NoError(t, h.setDestinations())
	names := make([]string, 0, 3)
	for _, d := range h.destinations {
		names = append(names, d.name)
	}
	require.Equal(t, []string{"default", "own", "plain"}, names)
	giveUp := caddy.Duration(defaultGiveUp)
	for i, want := range []Destination{
		{Sign: []string{"s"}, Timeout: 7, Concurrency: 5, Rate: 3, Retry: &Retry{First: 2, Max: 50, GiveUp: giveUp}},
		{Sign: []string{"t"}, Timeout: 8, Concurrency: 6, Rate: 4, Retry: &Retry{First: 100, Max: 100, GiveUp: giveUp}},
		{Sign: []string{"s"}, Timeout: 7, Concurrency: 5, Rate: 0, Retry: &Retry{First: 2, Max: 50, GiveUp: giveUp}},
	} {
		got := h.destinations[i]
		want.name, want.Forward = got.name, got.Forward
		assert.Equal(t, want, *got)
	}
	h.rules = new(callback.Rules)
	assert.EqualValues(t, 100, h.policy().MaxWait, "the longest of all")
}

// Handlers of one name must have the same destinations.
func TestDifferingDestinationsAreNamed(t *testing.T) {
	config := func(options string) map[string]any {
		h := new(Handler)
		require.NoError(t, json.Unmarshal([]byte(`{"destinations":{"app":{"forward":{"url":"http://a/"}},"staging":{`+options+`}}}`), h))
		h.setDefaults()
		require.NoError(t, h.setDestinations())
		canonical, err := configdiff.Canonical(h)
		require.NoError(t, err)
		return canonical
	}
	plain := config(`"forward":{"url":"http://b/"}`)
	assert.Empty(t, configdiff.Differences(plain, config(`"timeout":"30s","forward":{"url":"http://b/"}`)), "the default does not differ")
	assert.Equal(t, []string{"destinations.staging.forward.url", "destinations.staging.match", "destinations.staging.retry.max"},
		configdiff.Differences(plain, config(`"forward":{"url":"http://c/"},"match":{"types":["a"]},"retry":{"max":"2h"}`)))
}

func TestAnErrorSaysHowToBuildAnInboxIn(t *testing.T) {
	require.NoError(t, checkInbox("sqlite"))
	require.EqualError(t, checkInbox("redis"), `this Caddy has no inbox module "redis": expected sqlite or nats`)
	if _, err := caddy.GetModule("http.fotor_webhook.inbox.nats"); err == nil {
		t.Fatal("the root package must not bring the module nats")
	}
	require.EqualError(t, checkInbox("nats"),
		"this Caddy is built without the module nats: build it with --with github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/nats")
}

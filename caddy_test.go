package fotorwebhook

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
		`{}`:             "forward is missing",
		`{"forward":{}}`: "forward is missing",
		`{"forward":{"url":"http://app/","routes":[]}}`:                           "forward has both a URL and routes",
		`{"forward":{"url":"app"}}`:                                               `forward: the URL has the scheme ""`,
		`{"name":"a/b","forward":{"url":"http://app/"}}`:                          `name "a/b": expected 1 to 64`,
		`{"max_body":100,"forward":{"url":"http://app/"}}`:                        "max_body is 100: expected 1024 to 67108864",
		`{"max_body":-1,"forward":{"url":"http://app/"}}`:                         "max_body is -1: expected",
		`{"keep":1000,"forward":{"url":"http://app/"}}`:                           "keep is 1µs: expected 1m0s to",
		`{"quarantine":-1,"forward":{"url":"http://app/"}}`:                       "quarantine is -1: expected 0 to 1000000",
		`{"map_status":{"2":"failed"},"forward":{"url":"http://app/"}}`:           "map_status 2: expected a number from 3 to 999",
		`{"map_status":{"3":"timed_out"},"forward":{"url":"http://app/"}}`:        `map_status 3 is "timed_out": expected in_progress, completed or failed`,
		`{"result_url":{"s3://b":"https://h/"},"forward":{"url":"http://app/"}}`:  `result_url "s3://b": the prefix is not what a URL begins with`,
		`{"timeout":-5,"forward":{"url":"http://app/"}}`:                          "timeout is -5ns: expected",
		`{"timeout":"2h","forward":{"url":"http://app/"}}`:                        "timeout is 2h0m0s: expected",
		`{"concurrency":5000,"forward":{"url":"http://app/"}}`:                    "concurrency is 5000: expected 1 to 4096",
		`{"retry":{"first":"1h","max":"1m"},"forward":{"url":"http://app/"}}`:     "retry max is 1m0s: expected 1h0m0s to",
		`{"retry":{"first":"1h","give_up":"1m"},"forward":{"url":"http://a/"}}`:   "retry give_up is 1m0s: expected 1h0m0s to",
		`{"allow":["example.com"],"forward":{"url":"http://app/"}}`:               "allow: invalid IP address: 'example.com'",
		`{"allow_from":[{"source":"nowhere"}],"forward":{"url":"http://app/"}}`:   "allow_from: ",
		`{"inbox":{"module":"paper"},"forward":{"url":"http://app/"}}`:            "inbox: ",
		`{"sign":["whsec_short"],"forward":{"url":"http://app/"}}`:                "sign: secret 1 of 1",
		`{"forwards":1,"forward":{"url":"http://app/"}}`:                          `unknown field "forwards"`,
		`{"forward":{"routes":[{"handle":[{"handler":"nonsense"}]}]}}`:            "forward: ",
		`{"inbox":{"module":"sqlite","max_size":5},"forward":{"url":"http://a"}}`: "max_size",
	} {
		assert.ErrorContains(t, validated(t, config), want, config)
	}
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

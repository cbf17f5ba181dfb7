package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/dustin/go-humanize"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	fotorwebhook "github.com/fotor-webhook/caddy-fotor-webhook"
	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/nats"
	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
)

// secret is for the placeholders in the examples; it is used nowhere else.
const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// TestCaddyfilesAreValid adapts, provisions and validates every Caddyfile of the
// documentation, each of which is complete.
func TestCaddyfilesAreValid(t *testing.T) {
	t.Setenv("FOTOR_WEBHOOK_SECRET", secret)
	t.Setenv("FOTOR_OLD_SECRET", secret)
	t.Setenv("FOTOR_STAGING_SECRET", secret)
	t.Setenv("FOTOR_API_KEY", "key")
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	file := filepath.Join(t.TempDir(), "fotor")
	require.NoError(t, os.WriteFile(file, []byte(secret+"\n"), 0o600))
	here := map[string]string{
		"{file./run/secrets/fotor}":                      "{file." + file + "}",
		"tls_trust_pool file /etc/caddy/internal-ca.pem": "tls_trust_pool system", // the file does not exist here
	}

	checked := 0
	for _, page := range pages(t) {
		for _, f := range fencesOf(t, page, "caddyfile") {
			checked++
			t.Run(fmt.Sprintf("%s:%d", page, f.line), func(t *testing.T) {
				require.Equal(t, string(caddyfile.Format([]byte(f.text))), f.text, "not as `caddy fmt` has it")
				source := []byte(f.text)
				for there, standIn := range here {
					source = bytes.ReplaceAll(source, []byte(there), []byte(standIn))
				}
				adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(source, nil)
				require.NoError(t, err)
				require.Empty(t, warnings)
				validate(t, adapted)
			})
		}
	}
	require.Greater(t, checked, 5)
}

func TestJSONConfigIsValid(t *testing.T) {
	t.Setenv("FOTOR_WEBHOOK_SECRET", secret)
	configs := fencesOf(t, "docs/json-config.md", "json")
	require.Len(t, configs, 1)
	validate(t, []byte(configs[0].text))

	// another inbox in place of the config's own
	inboxes := fencesOf(t, "docs/json-config.md", "json inbox")
	require.Len(t, inboxes, 1)
	there := regexp.MustCompile(`"inbox": \{[^}]*\}`)
	require.Len(t, there.FindAllString(configs[0].text, -1), 1)
	validate(t, []byte(there.ReplaceAllLiteralString(configs[0].text, `"inbox": `+inboxes[0].text)))
}

// validate provisions and validates a config without starting it.
func validate(t *testing.T, config []byte) {
	t.Helper()
	parsed := new(caddy.Config)
	require.NoError(t, json.Unmarshal(config, parsed))
	require.NoError(t, caddy.Validate(parsed))
}

// TestDefaults compares the defaults in the tables of options with those of a minimal
// config.
func TestDefaults(t *testing.T) {
	var config caddy.Config
	require.NoError(t, json.Unmarshal([]byte(`{"admin": {"disabled": true}, "apps": {"http": {"servers": {"s": {
		"listen": ["127.0.0.1:0"],
		"routes": [{"handle": [{"handler": "fotor_webhook", "forward": {"url": "http://localhost/"}}]}]
	}}}}}`), &config))
	ctx, err := caddy.ProvisionContext(&config)
	require.NoError(t, err)
	app, err := ctx.App("http")
	require.NoError(t, err)
	h, ok := app.(*caddyhttp.App).Servers["s"].Routes[0].Handlers[0].(*fotorwebhook.Handler)
	require.True(t, ok)

	onNATS := new(nats.Inbox)
	require.NoError(t, onNATS.Provision(caddy.Context{}))

	size := func(s string) any {
		n, err := humanize.ParseBytes(s)
		require.NoError(t, err)
		return int64(n) //nolint:gosec // small
	}
	duration := func(s string) any {
		d, err := caddy.ParseDuration(s)
		require.NoError(t, err)
		return caddy.Duration(d)
	}
	text := func(s string) any { return s }
	count := func(s string) any {
		var n int
		require.NoError(t, json.Unmarshal([]byte(s), &n))
		return n
	}

	for _, is := range []struct {
		column, option string
		value          any
		parse          func(string) any
	}{
		{"option", "allow", h.Allow[0], text},
		{"option", "name", h.Name, text},
		{"option", "max_body", h.MaxBody, size},
		{"option", "keep", h.Keep, duration},
		{"option", "quarantine", *h.Quarantine, count},
		{"option", "result_url", h.ResultURL, func(s string) any {
			prefix, replacement, _ := strings.Cut(s, " ")
			return map[string]string{prefix: replacement}
		}},
		{"option", "timeout", h.Timeout, duration},
		{"option", "concurrency", h.Concurrency, count},
		{"option", "retry first", h.Retry.First, duration},
		{"option", "retry max", h.Retry.Max, duration},
		{"option", "retry give_up", h.Retry.GiveUp, duration},
		{natsColumn, "stream", onNATS.Stream, text},
		{natsColumn, "replicas", onNATS.Replicas, count},
		{natsColumn, "max_size", onNATS.MaxSize, size},
		{natsColumn, "lease", onNATS.Lease, duration},
		{natsColumn, "publish_timeout", onNATS.PublishTimeout, duration},
	} {
		t.Run(is.option, func(t *testing.T) {
			for _, row := range table(t, "docs/options.md", is.column) {
				if row[0] == "`"+is.option+"`" {
					require.Equal(t, is.value, is.parse(named(row[2])[0]))
					return
				}
			}
			require.Fail(t, "the table has no such option")
		})
	}
	require.Len(t, h.Allow, 1)
}

// TestEventExamples makes the event of the documented callback and compares it
// with the documented events.
func TestEventExamples(t *testing.T) {
	callbacks := fencesOf(t, "docs/event.md", "json callback")
	require.Len(t, callbacks, 1)
	parsed, err := callback.Parse([]byte(callbacks[0].text), nil)
	require.NoError(t, err)
	received := time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC)
	event := parsed.Event(callback.Arrival{At: received, Source: netip.MustParseAddr("54.212.95.175")})

	schema, err := jsonschema.NewCompiler().Compile(filepath.Join(root, "schema", "event.schema.json"))
	require.NoError(t, err)
	for _, page := range []string{"README.md", "docs/event.md"} {
		examples := fencesOf(t, page, "json event")
		require.Len(t, examples, 1, page)
		var compact bytes.Buffer
		require.NoError(t, json.Compact(&compact, []byte(examples[0].text)))
		require.Equal(t, string(event.Body), compact.String(), page)

		value, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(examples[0].text)))
		require.NoError(t, err)
		require.NoError(t, schema.Validate(value), page)
	}
}

// TestKeysTable compares the keys that the page explains with those of its example.
func TestKeysTable(t *testing.T) {
	var event map[string]any
	require.NoError(t, json.Unmarshal([]byte(fencesOf(t, "docs/event.md", "json event")[0].text), &event))
	rows := table(t, "docs/event.md", "key")
	require.Len(t, rows, len(event))
	for _, row := range rows {
		require.Contains(t, event, named(row[0])[0])
	}
}

package forward

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestForwardURLIsChecked(t *testing.T) {
	t.Setenv("FOTOR_TEST_UPSTREAM", "http://app:8080/events")
	for _, good := range []string{
		"http://app", "https://app.example.com/events?x=1", "h2c://app:8080/", "http://[::1]:8080/", "{env.FOTOR_TEST_UPSTREAM}",
	} {
		_, err := parseURL(good)
		require.NoError(t, err, good)
	}
	for bad, want := range map[string]string{
		"app.example.com":        `has the scheme ""`,
		"app:8080":               `has the scheme "app"`,
		"ftp://app/":             `has the scheme "ftp"`,
		"http:///events":         "has no host",
		"http://:8080/":          "has no host",
		"http://app/#part":       "has a fragment",
		"http://app:port/":       "cannot be read",
		"http://app:99999/":      "has the port 99999: expected 1 to 65535",
		"http://app:0/":          "has the port 0: expected 1 to 65535",
		"unix//run/app.sock":     "expected a block in its place, such as forward { reverse_proxy unix//run/app.sock }",
		"unix:///run/app.sock":   "a Unix socket has no URL",
		"unix+h2c//run/app.sock": "a Unix socket has no URL",
		"http://user:pw@a b/":    "cannot be read",
		"{env.FOTOR_TEST_UNSET}": "{env.FOTOR_TEST_UNSET} is empty",
		"http://{http.nonsense}": "{http.nonsense} is unknown",
		"{http.fotor_webhook.x}": "{http.fotor_webhook.x} is known in a request only, not when the config is loaded",
		"http://{pw}/":           "a placeholder that is unknown or empty",
	} {
		_, err := parseURL(bad)
		require.ErrorContains(t, err, want, bad)
		assert.NotContains(t, err.Error(), "pw", "an error must not show credentials")
	}
}

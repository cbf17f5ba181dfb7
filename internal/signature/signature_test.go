package signature

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const oldSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func TestSecretsAreChecked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte(oldSecret+"\n"), 0o600))
	t.Setenv("FOTOR_TEST_SECRET", oldSecret)
	for _, good := range []string{oldSecret, strings.TrimPrefix(oldSecret, "whsec_"), "{env.FOTOR_TEST_SECRET}", "{file." + file + "}"} {
		secret, err := parseSecret(good)
		require.NoError(t, err)
		assert.Len(t, secret, 24)
	}
	for bad, want := range map[string]string{
		"whsec_c2hvcnQ=":                      "it has 5 bytes; expected 24 to 64",
		"whsec_" + strings.Repeat("QUJD", 22): "it has 66 bytes; expected 24 to 64",
		"not base64!":                         "it is not base64",
		"":                                    "it has 0 bytes",
		"{env.FOTOR_TEST_NOT_SET}":            "{env.FOTOR_TEST_NOT_SET} is empty",
		"{no.such.placeholder}":               "a placeholder that is unknown or empty",
	} {
		_, err := Parse([]string{oldSecret, bad})
		require.ErrorContains(t, err, "sign: secret 2 of 2: ")
		require.ErrorContains(t, err, want)
		if bad != "" && !strings.HasPrefix(bad, "{env.") {
			assert.NotContains(t, err.Error(), bad, "an error must not show a secret")
		}
	}
}

func TestAnErrorNamesThePlaceholderOfASecretAndNothingElse(t *testing.T) {
	_, err := parseSecret("{env.FOTOR_TEST_UNSET}")
	require.EqualError(t, err, "{env.FOTOR_TEST_UNSET} is empty")
	_, err = parseSecret("c2VjcmV0{hunter2}c2VjcmV0")
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "hunter2")
}

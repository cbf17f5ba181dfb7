package command

import (
	"bytes"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// completed completes the last of the words as the scripts of "caddy completion" do.
func completed(t *testing.T, env *environment, words ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env.stdout, env.stderr = &output{w: &stdout}, &stderr
	root, cmd := &cobra.Command{Use: "caddy"}, &cobra.Command{Use: "fotor-webhook"}
	addCommands(cmd, env)
	root.AddCommand(cmd)
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	root.SetArgs(append([]string{cobra.ShellCompRequestCmd, "fotor-webhook"}, words...))
	require.NoError(t, root.ExecuteContext(t.Context()))
	return stdout.String()
}

// An admin endpoint that does not answer must not keep the shell waiting.
func TestCompletionWaitsForASecond(t *testing.T) {
	for _, words := range [][]string{
		{"list", "--handler", ""},
		{"status", ""},
		{"list", "--destination", ""},
		{"replay", "--to", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			env := testEnvironment()
			env.transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			})
			begun := time.Now()
			require.Equal(t, ":4\n", completed(t, env, words...), "nothing, and no files")
			require.Equal(t, time.Second, time.Since(begun))
		})
	}
}

// Whatever an admin endpoint answers, the shell gets names or nothing.
func TestCompletionOfOddAnswers(t *testing.T) {
	for answer, want := range map[string]string{
		"":                    ":4\n",
		"{":                   ":4\n",
		`{"handlers":null}`:   ":4\n",
		`{"handlers":"many"}`: ":4\n",
		`{"handlers":[{"name":"a\n:1\n\u001b[31m","destinations":[{"name":"x\ty"}]}]}`: "\"a\\n:1\\n\\x1b[31m\"\n:4\n",
	} {
		env := testEnvironment()
		env.transport = roundTrip(func(*http.Request) (*http.Response, error) { return answering(answer), nil })
		require.Equal(t, want, completed(t, env, "list", "--handler", ""), answer)
	}
}

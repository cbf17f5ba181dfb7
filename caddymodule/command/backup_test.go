package command

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// A backup that is incomplete or not as expected leaves no file behind. A good one is
// tested end to end.
func TestBackupThatIsNotWhole(t *testing.T) {
	whole := func(module, events, body string) *http.Response {
		return &http.Response{
			StatusCode: http.StatusOK, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)),
			Header: http.Header{"Fotor-Webhook-Inbox": {module}, "Fotor-Webhook-Events": {events}},
		}
	}
	for name, c := range map[string]struct {
		answer func() *http.Response
		want   string
	}{
		"cut off": {func() *http.Response {
			r := whole("sqlite", "1", "half")
			r.ContentLength = 8
			return r
		}, "the copy broke off after 4 B of 8 B"},
		"connection lost": {func() *http.Response {
			r := whole("sqlite", "1", "")
			r.ContentLength, r.Body = 8, io.NopCloser(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errors.New("connection reset"))))
			return r
		}, "connection reset"},
		"of another version":            {func() *http.Response { return whole("sqlite", "", "text") }, "is not what this version expects"},
		"of an inbox that is not there": {func() *http.Response { return whole("none", "1", "text") }, "an inbox that this Caddy does not have"},
	} {
		t.Run(name, func(t *testing.T) {
			env := testEnvironment()
			env.transport = roundTrip(func(*http.Request) (*http.Response, error) { return c.answer(), nil })
			dir := t.TempDir()
			r := run(t, env, "backup", filepath.Join(dir, "copy.db"), "--handler", "default", "--address", "localhost:2019")
			require.Equal(t, exitFailed, r.code)
			require.Contains(t, r.stderr, "no backup was made")
			require.Contains(t, r.stderr, c.want)
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestVerifyKnowsItsModules(t *testing.T) {
	_, err := verify(context.Background(), "none", "file")
	require.ErrorContains(t, err, "an inbox that this Caddy does not have")
}

// A dash is no file's name: elsewhere it means standard output.
func TestBackupIsNotWrittenToStandardOutput(t *testing.T) {
	t.Chdir(t.TempDir())
	r := run(t, testEnvironment(), "backup", "-", "--handler", "default", "--address", "localhost:2019")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "a copy cannot go to standard output")
	require.NoFileExists(t, "-")
}

// A name that no file can have is refused before anything is copied.
func TestBackupWithoutAName(t *testing.T) {
	f := startFake(t, sampleHandler("default"))
	for name, want := range map[string]string{"": "the name of the file is empty", "-": "a copy cannot go to standard output"} {
		r := run(t, testEnvironment(), "backup", name, "--address", f.addr)
		require.Equal(t, exitFailed, r.code)
		require.Contains(t, r.stderr, want)
	}
	require.Empty(t, f.asked())
}

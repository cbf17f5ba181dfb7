//go:build !windows

package command

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// testSignals ends running commands with Ctrl-C.
func (b *builtBinary) testSignals(t *testing.T) {
	t.Run("tail", func(t *testing.T) {
		f := startFake(t, sampleHandler("default"))
		f.change(func() { f.handlers[0].streams = oneNotice(t) })
		r := b.interrupt(t, "tail", "--address", f.addr)
		require.Equal(t, ran{stdout: "TIME\tKIND\tID\tSTATUS\tTYPE\tTASK\tDETAILS\n2026-11-23 12:00:00.000\tresumed\t\t\t\t\t\n"}, r)
	})
	t.Run("send", func(t *testing.T) {
		_, url := startGateway(t, nil)
		r := b.interrupt(t, "send", url, "--repeat", "1000000000", "--concurrency", "4")
		require.Zero(t, r.code, r.stderr)
		require.Contains(t, r.stdout, "\nLatency\tmin ")
		require.NotContains(t, r.stdout, "No answer")
		require.Empty(t, r.stderr)
	})
	t.Run("list", func(t *testing.T) {
		pages := 0
		_, addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if pages++; pages > 1 {
				<-r.Context().Done()
				return
			}
			writeBody(w, `{"events":[{"id":"1"}],"next":"2"}`)
		}))
		r := b.interrupt(t, "list", "-n", "default", "--json", "--limit", "0", "--address", addr)
		require.Equal(t, ran{stdout: "{\"id\":\"1\"}\n", stderr: "Error: interrupted\n", code: exitFailed}, r)
	})
}

// interrupt runs a command and sends it Ctrl-C once it has printed a line.
func (b *builtBinary) interrupt(t *testing.T, args ...string) ran {
	t.Helper()
	cmd := b.command(t.Context(), nil, append([]string{"fotor-webhook"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	rest, err := io.ReadAll(lines)
	require.NoError(t, err)
	return ran{code: codeOf(t, cmd.Wait()), stdout: first + string(rest), stderr: stderr.String()}
}

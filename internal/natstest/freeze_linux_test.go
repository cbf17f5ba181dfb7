package natstest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A thread that still runs could answer what is sent after Freeze.
func TestAFrozenServerHasStopped(t *testing.T) {
	c := New(t, Config{Nodes: 1, Separate: true})
	p, ok := c.nodes[0].running.(*process)
	require.True(t, ok)
	for range 20 {
		require.NoError(t, c.Freeze(0))
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		require.NoError(t, err)
		require.NotEmpty(t, threads)
		for _, thread := range threads {
			stat, err := os.ReadFile(thread)
			require.NoError(t, err)
			_, state, _ := bytes.Cut(stat, []byte(") "))
			require.Equal(t, "T", string(state[:1]))
		}
		require.NoError(t, c.Thaw(0))
		require.NoError(t, c.AwaitHealthy(t.Context()))
	}
}

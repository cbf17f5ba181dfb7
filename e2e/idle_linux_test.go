package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// usage is what a process has used.
type usage struct {
	cpu   time.Duration
	wakes int // how often its threads waited for something
}

func (p *process) usage() (u usage) {
	p.t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", p.cmd.Process.Pid))
	require.NoError(p.t, err)
	require.NotEmpty(p.t, tasks)
	for _, task := range tasks {
		stat, err := os.ReadFile(task + "/schedstat")
		require.NoError(p.t, err)
		ns, err := strconv.ParseInt(strings.Fields(string(stat))[0], 10, 64)
		require.NoError(p.t, err)
		u.cpu += time.Duration(ns)
		status, err := os.ReadFile(task + "/status")
		require.NoError(p.t, err)
		_, rest, ok := strings.Cut(string(status), "\nvoluntary_ctxt_switches:")
		require.True(p.t, ok)
		n, err := strconv.Atoi(strings.Fields(rest)[0])
		require.NoError(p.t, err)
		u.wakes += n
	}
	return u
}

// An idle gateway does nothing: it does not poll.
func TestIdleCostsNothing(t *testing.T) {
	up := newUpstream(t, nil)
	stock := newGateway(t)
	g := newGateway(t)
	processes := map[string]*process{
		"stock Caddy": stock.Run(fmt.Sprintf("{\nadmin off\nauto_https off\npersist_config off\n%s\n}\nhttp://127.0.0.1:%d {\nrespond 200\n}\n", quiet, stock.Port)),
		"the gateway": g.Run(g.Caddyfile("forward "+up.URL, "", quiet)),
	}
	for i := range 20 {
		g.Accept(avatar(fmt.Sprint("task-", i)))
	}
	g.Post("not JSON")
	g.delivered(20)

	// Go itself wakes up now and then to collect garbage, so the best of several windows
	// counts: polling would show in each of them.
	const window = time.Second
	best := map[string]usage{}
	for range 4 {
		before := map[string]usage{}
		for name, p := range processes {
			before[name] = p.usage()
		}
		time.Sleep(window)
		for name, p := range processes {
			after := p.usage()
			used := usage{after.cpu - before[name].cpu, after.wakes - before[name].wakes}
			if least, ok := best[name]; !ok || used.wakes < least.wakes {
				best[name] = used
			}
		}
	}
	t.Logf("in %s: %+v", window, best)
	const generous = 20
	assert.LessOrEqual(t, best["the gateway"].wakes, best["stock Caddy"].wakes+generous)
	assert.LessOrEqual(t, best["the gateway"].cpu, best["stock Caddy"].cpu+window/100)
}

package gateway

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	pressureBegan = "destination is under pressure; fewer attempts at once"
	pressureEnded = "destination takes all attempts again"
)

// stumbles answers the first 16 attempts 503, for which the limit falls from 32 to
// 8, and the others after five seconds.
func stumbles(visit int) dispatch.Result {
	if visit <= 16 {
		return dispatch.Result{Status: 503}
	}
	time.Sleep(5 * time.Second)
	return dispatch.Result{Status: 204}
}

func inStumbling(t *testing.T, test func(t *testing.T, c *cluster, e *edge)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		e := startEdge(t, c, "")
		c.change(func() { e.answer = stumbles })
		c.put(60)
		synctest.Wait()
		test(t, c, e)
	})
}

func TestPressureIsLogged(t *testing.T) {
	inStumbling(t, func(t *testing.T, _ *cluster, e *edge) {
		assert.Zero(t, e.lines(pressureBegan), "not at once")
		pass(pressureEvery)
		require.Equal(t, 1, e.lines(pressureBegan))
		assert.Equal(t, map[string]any{"destination": "default", "limit": int64(8), "attempts": int64(16), "failed": int64(16)},
			e.logs.FilterMessage(pressureBegan).All()[0].ContextMap())
		assert.Equal(t, "info", e.logs.FilterMessage(pressureBegan).All()[0].Level.String())
		assert.Zero(t, e.lines(pressureEnded))
		pass(time.Minute)
		assert.Equal(t, 1, e.lines(pressureBegan))
		require.Equal(t, 1, e.lines(pressureEnded))
		ended := e.logs.FilterMessage(pressureEnded).All()[0]
		assert.EqualValues(t, 32, ended.ContextMap()["limit"])
	})
}

// A reload neither begins nor ends pressure, and the new config's log goes on from
// where the old one's was.
func TestPressureOutlivesAReload(t *testing.T) {
	inStumbling(t, func(t *testing.T, _ *cluster, e *edge) {
		pass(pressureEvery)
		require.Equal(t, 1, e.lines(pressureBegan))
		before := *e
		e.newest = nil // the old config is not stopped yet
		e.load()
		pass(time.Minute)
		before.stop()
		assert.Zero(t, before.lines(pressureEnded))
		assert.Zero(t, e.lines(pressureBegan))
		assert.Equal(t, 1, e.lines(pressureEnded))
	})
}

func TestAHoldByHandDoesNotHidePressure(t *testing.T) {
	inStumbling(t, func(t *testing.T, _ *cluster, e *edge) {
		require.NoError(t, e.operator().Hold(t.Context(), "", "", time.Time{}))
		pass(pressureEvery)
		assert.Equal(t, 1, e.lines(pressureBegan))
	})
}

func TestWithoutDeliveriesThereIsNoPressure(t *testing.T) {
	inStumbling(t, func(t *testing.T, _ *cluster, e *edge) {
		logs := e.logs
		e.stop()
		pass(time.Minute)
		assert.Zero(t, logs.FilterMessage(pressureBegan).Len())
	})
}

func TestAHoldIsNoPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		e := startEdge(t, c, "")
		c.change(func() { e.down = true })
		c.put(200)
		pass(5 * time.Minute)
		require.NotEmpty(t, e.holds())
		assert.Equal(t, 1, e.operator().Holds().Pressure.Limit)
		c.change(func() {
			e.down = false
			e.answer = func(int) dispatch.Result {
				time.Sleep(5 * time.Second)
				return dispatch.Result{Status: 204}
			}
		})
		for len(e.holds()) > 0 {
			pass(time.Second)
		}
		pass(time.Second)
		assert.Less(t, e.operator().Holds().Pressure.Limit, 16)
		pass(10 * time.Minute)
		assert.Equal(t, 32, e.operator().Holds().Pressure.Limit)
		assert.Equal(t, 1, e.lines(heldInTrouble))
		assert.Zero(t, e.lines(pressureBegan), "the limit rises after a hold")
		assert.Zero(t, e.lines(pressureEnded))
	})
}

func TestOperatorsSeeThePressure(t *testing.T) {
	inStumbling(t, func(t *testing.T, _ *cluster, e *edge) {
		o := e.operator()
		assert.Equal(t, control.Pressure{Limit: 8, Concurrency: 32, Attempts: 16, Failed: 16}, o.Holds().Pressure)
		require.NoError(t, o.Hold(t.Context(), "", "", time.Time{}))
		assert.Equal(t, control.Pressure{Limit: 0, Concurrency: 32, Attempts: 16, Failed: 16}, o.Holds().Pressure)
		e.lane().dispatcher.PeerTrouble(inbox.Trouble{Until: time.Now().Add(time.Hour), Reason: "down"})
		assert.Len(t, o.Holds().Holds, 2)
		assert.Zero(t, o.Holds().Pressure.Limit, "the one by hand outranks the other")
		require.NoError(t, o.Resume(t.Context(), ""))
		assert.Equal(t, 1, o.Holds().Pressure.Limit)
	})
}

func TestEpisodes(t *testing.T) {
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	load := func(limit int) dispatch.Load {
		return dispatch.Load{Limit: limit, Concurrency: 32, Attempts: 40, Failed: 12}
	}
	type step struct {
		after time.Duration // the start
		load  dispatch.Load
		held  bool
		want  string
	}
	const began, ended = "began", "ended"
	for name, steps := range map[string][]step{
		"half is not yet pressure":     {{0, load(16), false, ""}},
		"less than half is":            {{0, load(15), false, began}, {1, load(8), false, ""}},
		"of three, one is":             {{0, dispatch.Load{Limit: 1, Concurrency: 3, Failed: 1}, false, began}},
		"of two, one is not":           {{0, dispatch.Load{Limit: 1, Concurrency: 2, Failed: 1}, false, ""}},
		"it ends with the whole limit": {{0, load(8), false, began}, {1, load(31), false, ""}, {2, load(32), false, ended}, {3, load(32), false, ""}},
		"without failures it is none":  {{0, dispatch.Load{Limit: 8, Concurrency: 32, Attempts: 9}, false, ""}},
		"again only after a minute": {
			{0, load(8), false, began},
			{time.Second, load(32), false, ended},
			{2 * time.Second, load(8), false, ""},
			{3 * time.Second, load(32), false, ""},
			{59 * time.Second, load(8), false, ""},
			{60 * time.Second, load(8), false, began},
			{61 * time.Second, load(32), false, ended},
		},
		"a hold is none, nor what follows": {
			{0, load(32), false, ""},
			{0, load(8), true, ""},
			{1, load(1), false, ""},
			{2, load(8), false, ""},
			{3, load(32), false, ""},
			{4, load(8), false, began},
		},
		"it falls again after a hold": {
			{0, load(8), true, ""},
			{1, load(1), false, ""},
			{2, load(20), false, ""},
			{3, load(10), false, began},
		},
		"a hold does not end it": {
			{0, load(8), false, began},
			{1, load(32), true, ""},
			{2, load(1), false, ""},
			{3, load(32), false, ended},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var e episodes
			for i, s := range steps {
				got := ""
				switch began, ended := e.look(s.load, s.held, start.Add(s.after)); {
				case began && ended:
					got = "both"
				case began:
					got = "began"
				case ended:
					got = "ended"
				}
				require.Equal(t, s.want, got, "step %d", i)
			}
		})
	}
}

// However the limit goes up and down, beginnings and ends alternate, and no two
// beginnings are within a minute.
func TestEpisodesDoNotFlap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	var e episodes
	var last time.Time
	under, shown := false, 0
	for range 100_000 {
		now = now.Add(time.Duration(random.IntN(2000)) * time.Millisecond)
		l := dispatch.Load{Limit: []int{1, 8, 20, 32}[random.IntN(4)], Concurrency: 32, Failed: random.IntN(2)}
		began, ended := e.look(l, random.IntN(10) == 0, now)
		require.False(t, began && under, "it began twice")
		require.False(t, ended && !under, "it ended twice")
		if began {
			require.True(t, last.IsZero() || now.Sub(last) >= time.Minute)
			last = now
			shown++
		}
		under = (under || began) && !ended
	}
	assert.Greater(t, shown, 1000)
}

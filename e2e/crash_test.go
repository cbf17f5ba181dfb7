package e2e

import (
	"database/sql"
	"flag"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the driver for looking at the file
)

var (
	crashRounds = flag.Int("crash.rounds", 20, "how often TestCrash kills Caddy")
	crashSeed   = flag.Uint64("crash.seed", 0, "where the moments of TestCrash come from; 0 draws it")
)

// Whenever and however often Caddy is killed, each callback that was answered 200 reaches
// the upstream, in the order of its task.
func TestCrash(t *testing.T) {
	up := newUpstream(t, picky)
	g := newGateway(t)
	config := g.Caddyfile("forward "+up.URL+quick, "", quiet)
	c := call(t, g.URL(), 8)
	g.crash(config, c)

	p := g.Run(config)
	c.AwaitAnswers(t, 1)
	c.Stop()
	await(t, func() bool { return g.Events("pending") == 0 }, "the backlog to go out")
	p.Terminate()
	require.Zero(t, p.ExitCode(), "%s", p.Output)

	deliveries := up.Deliveries()
	repeats := c.Check(t, deliveries, takes)
	t.Logf("%d crashes: %d events answered 200, %d requests without an answer, %d attempts at the upstream, %d repeats of events that it had taken",
		*crashRounds, len(c.accepted), c.Broken(), len(deliveries), repeats)
	checkFile(t, g.DB)
}

// crash starts Caddy and kills it at some random moment, again and again.
func (g *gateway) crash(config string, c *callers) {
	t := g.t
	t.Helper()
	seed := *crashSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-crash.seed=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range *crashRounds {
		p := g.Launch(config)
		if round%4 != 0 { // most rounds end under load, the others anywhere during the start
			c.AwaitAnswers(t, 1)
		}
		time.Sleep(time.Duration(random.Int64N(int64(600 * time.Millisecond)))) // until some random moment
		require.True(t, p.Running(), "Caddy ended by itself: %s", p.Output)
		p.Kill()
	}
}

// takes reports whether picky takes a delivery: it refuses the first attempt at every tenth
// event.
func takes(d delivery) bool {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(d.Event.ID))
	return sum.Sum32()%10 != 0 || d.Header.Get("Fotor-Webhook-Attempt") != "1"
}

// picky answers for an upstream that fails at times, see takes.
func picky(w http.ResponseWriter, d delivery) {
	if takes(d) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.WriteHeader(http.StatusInternalServerError)
}

// inFile opens a closed inbox file, and closes it again.
func inFile(t *testing.T, path string, do func(db *sql.DB)) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer db.Close()
	do(db)
}

// age makes the events in a closed inbox file look as if they had ended two hours earlier.
func age(t *testing.T, path string) {
	t.Helper()
	inFile(t, path, func(db *sql.DB) {
		done, err := db.ExecContext(t.Context(), "UPDATE delivery SET settled_at = settled_at - 7200000000 WHERE settled_at > 0")
		require.NoError(t, err)
		n, err := done.RowsAffected()
		require.NoError(t, err)
		require.Positive(t, n)
	})
}

// checkFile checks that a closed inbox file is sound.
func checkFile(t *testing.T, path string) {
	t.Helper()
	var verdict string
	inFile(t, path, func(db *sql.DB) {
		require.NoError(t, db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict))
	})
	assert.Equal(t, "ok", verdict)
}

package e2e

import (
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// three is three destinations: one is well, one fails at times, one is away.
type three struct {
	t                 *testing.T
	well, moody, away *upstream
	address           string // of the one that is away
}

func newThree(t *testing.T) *three {
	t.Helper()
	return &three{
		t: t, well: newUpstream(t, nil), moody: newUpstream(t, picky), away: newStoppedUpstream(nil),
		address: fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0]),
	}
}

// Options are those of a handler with these destinations.
func (d *three) Options() string {
	return fmt.Sprintf("destination well {\nforward %s\n}\ndestination moody {\nforward %s\n}\ndestination away {\nforward http://%s\n}%s",
		d.well.URL, d.moody.URL, d.address, quick)
}

// Return starts the destination that was away.
func (d *three) Return() {
	d.t.Helper()
	require.NoError(d.t, d.away.Listener.Close())
	listener, err := net.Listen("tcp", d.address) //nolint:noctx // it is a server's
	require.NoError(d.t, err)
	d.away.Listener = listener
	d.away.Start()
	d.t.Cleanup(d.away.Close)
}

// Check compares what each has got with what callers were answered, and returns how many
// repeats there were.
func (d *three) Check(callers ...*callers) (repeats int) {
	d.t.Helper()
	all := func(delivery) bool { return true }
	for _, c := range callers {
		repeats += c.Check(d.t, d.well.Deliveries(), all)
		repeats += c.Check(d.t, d.moody.Deliveries(), takes)
		repeats += c.Check(d.t, d.away.Deliveries(), all)
	}
	return repeats
}

// pendingAt returns how many deliveries to a destination are pending.
func (g *gateway) pendingAt(destination string) int {
	g.t.Helper()
	return int(g.Metric(fmt.Sprintf(`caddy_fotor_webhook_destination_events{destination=%q,handler="default",state="pending"}`, destination)))
}

// Whenever and however often Caddy is killed, each of several destinations gets each
// callback that was answered 200, in the order of its task, and none waits for another.
func TestCrashWithDestinations(t *testing.T) {
	to := newThree(t)
	g := newGateway(t)
	config := g.Caddyfile(to.Options(), "", silent)
	c := call(t, g.URL(), 8)
	g.crash(config, c)

	p := g.Run(config)
	c.AwaitAnswers(t, 1)
	c.Stop()
	for _, name := range []string{"well", "moody"} {
		await(t, func() bool { return g.pendingAt(name) == 0 }, "the backlog to go out to %s", name)
	}
	assert.NotZero(t, g.pendingAt("away"))
	assert.Equal(t, g.pendingAt("away"), g.Events("pending"))
	to.Return()
	await(t, func() bool { return g.Events("pending") == 0 }, "the backlog to go out to the one that was away")
	p.Terminate()
	require.Zero(t, p.ExitCode(), "%s", p.Output)
	t.Logf("%d crashes: %d events answered 200, %d requests without an answer, %d repeats", *crashRounds, len(c.accepted), c.Broken(), to.Check(c))
	checkFile(t, g.DB)
}

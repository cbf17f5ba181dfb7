package dashboard

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// Numbers in one sentence are written alike.
func TestCountsOfADestination(t *testing.T) {
	d := control.Destination{Name: "app", Configured: true, Pressure: &control.Pressure{
		Attempts: 2995, Failed: 2995, Limit: 1, Concurrency: 1024,
	}}
	require.Equal(t, "2,995 of 2,995 attempts failed in the last minute; it gets 1 at once instead of 1,024.", destinationCondition(&d).Why)
}

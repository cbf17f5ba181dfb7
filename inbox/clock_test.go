package inbox

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAClockThatWasPutForwardIsNotTrustedForAWhile(t *testing.T) {
	const year = 8766 * time.Hour
	var c Clock
	require.True(t, c.Trusted(time.Now()))
	require.True(t, c.trusted(time.Hour, time.Hour))
	require.True(t, c.trusted(2*time.Hour, 2*time.Hour+clockJump), "a little ahead")
	require.True(t, c.trusted(3*time.Hour, 3*time.Hour-time.Minute), "put back")
	require.False(t, c.trusted(4*time.Hour, 4*time.Hour+year))
	require.False(t, c.trusted(4*time.Hour+clockTrust-1, 4*time.Hour+clockTrust+year))
	require.True(t, c.trusted(4*time.Hour+clockTrust, 4*time.Hour+clockTrust+year), "nobody has set it back")
	require.True(t, c.trusted(5*time.Hour, 5*time.Hour), "somebody has")
	require.False(t, c.trusted(6*time.Hour, 6*time.Hour+2*clockJump))
}

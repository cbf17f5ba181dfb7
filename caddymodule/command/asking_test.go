package command

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func TestPerSecond(t *testing.T) {
	for rate, want := range map[float64]string{
		0: "0/s", 0.00123: "0.0012/s", 0.1: "0.1/s", 2. / 3: "0.67/s", 1: "1/s", 10. / 3: "3.33/s", 12.5: "12.5/s", 100: "100/s", 99999: "99999/s",
	} {
		require.Equal(t, want, perSecond(rate))
	}
}

func TestHowItIsOfWhatWaitsToBeConfirmed(t *testing.T) {
	s := &session{environment: testEnvironment()}
	told := s.howItIs(&control.Destination{Name: inbox.ConfirmDestination, Configured: true})
	require.Equal(t, []string{"callbacks that wait until Fotor confirms them"}, told)
}

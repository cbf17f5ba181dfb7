package inbox

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHold(t *testing.T) {
	now := time.Date(2026, 11, 25, 9, 30, 0, 0, time.UTC)
	before, after := now.Add(-time.Minute), now.Add(time.Minute)
	since := now.Add(-time.Hour)
	for name, c := range map[string]struct {
		hold    Hold
		inForce bool
		end     time.Time
	}{
		"none":                      {Hold{}, false, time.Time{}},
		"none, though it ends":      {Hold{Until: after}, false, after},
		"until it is ended":         {Hold{Since: since}, true, time.Time{}},
		"for a while":               {Hold{Since: since, Until: after}, true, after},
		"its time has come":         {Hold{Since: since, Until: now}, false, now},
		"its time is over":          {Hold{Since: since, Until: before}, false, before},
		"ended":                     {Hold{Since: since, Ended: before}, false, before},
		"ended before its time":     {Hold{Since: since, Until: after, Ended: before}, false, before},
		"ended after its time":      {Hold{Since: since, Until: before, Ended: now}, false, before},
		"ended at its time exactly": {Hold{Since: since, Until: before, Ended: before}, false, before},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.inForce, c.hold.InForce(now))
			require.Equal(t, c.end, c.hold.End())
		})
	}
}

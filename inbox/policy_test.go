package inbox

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPolicyDue(t *testing.T) {
	now := time.Date(2026, 11, 25, 10, 30, 0, 123456789, time.FixedZone("elsewhere", 3600))
	rounded := now.UTC().Truncate(time.Microsecond)
	for name, c := range map[string]struct {
		maxWait time.Duration
		due     time.Time
		want    time.Time
	}{
		"never put off":               {time.Hour, time.Time{}, time.Time{}},
		"its time is over":            {time.Hour, now.Add(-time.Minute), time.Time{}},
		"its time has come":           {time.Hour, now, time.Time{}},
		"soon":                        {time.Hour, now.Add(time.Minute), rounded.Add(time.Minute)},
		"a little too late":           {time.Hour, now.Add(time.Hour + DueSlack), rounded.Add(time.Hour + DueSlack)},
		"far too late":                {time.Hour, now.AddDate(1, 0, 0), rounded.Add(time.Hour)},
		"far too late, without bound": {0, now.AddDate(1, 0, 0), rounded.AddDate(1, 0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, (&Policy{MaxWait: c.maxWait}).Due(c.due, now))
		})
	}
}

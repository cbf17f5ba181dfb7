package admin

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// An error about the end of a hold names what was given and what may be.
func TestHoldUntil(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for given, want := range map[string]string{
		"":          "",
		"30m":       "",
		"365d":      "",
		"400d":      "the body: the hold would end at 2027-12-28T12:00:00Z, later than in a year: expected 2027-11-23T12:00:00Z at the latest, 365 days from now",
		"-1m":       "the body: the hold would end in the past, at 2026-11-23T11:59:00Z: expected a time to come",
		"soon":      `the body: for is no duration: "soon"; expected one such as 30m, 365d at most`,
		"99999999h": `the body: for is no duration: "99999999h"; expected one such as 30m, 365d at most`,
	} {
		_, err := holdUntil(&control.HoldRequest{For: given}, now)
		if want == "" {
			require.NoError(t, err, given)
			continue
		}
		require.EqualError(t, err, want)
	}
	_, err := holdUntil(&control.HoldRequest{Until: new(now.AddDate(2, 0, 0))}, now)
	require.EqualError(t, err, "the body: the hold would end at 2028-11-23T12:00:00Z, later than in a year: expected 2027-11-23T12:00:00Z at the latest, 365 days from now")
}

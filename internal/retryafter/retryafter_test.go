package retryafter

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestRetryAfterIsSecondsOrDate(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	tests := map[string]time.Duration{
		"":                                      0,
		"120":                                   2 * time.Minute,
		" 5 ":                                   5 * time.Second,
		"0":                                     0,
		"-5":                                    0,
		"1.5":                                   0,
		"soon":                                  0,
		"18446744073709551615":                  Max,
		"99999999999999999999999999":            Max,
		"000000000000000000000000000007":        7 * time.Second,
		"+5":                                    0,
		"1e3":                                   0,
		"５":                                     0,
		"120, 60":                               0,
		"120;60":                                0,
		"Mon, 23 Nov 2026 12:00:30 GMT":         30 * time.Second,
		"Monday, 23-Nov-26 12:00:30 GMT":        30 * time.Second,
		"Mon Nov 23 12:00:30 2026":              30 * time.Second,
		"Mon, 23 Nov 2026 11:00:00 GMT":         0,
		"Mon, 23 Nov 2999 11:00:00 GMT":         Max,
		"Fri, 31 Dec 9999 23:59:59 GMT":         Max,
		"Tue, 29 Feb 10000 00:00:00 GMT":        Max,
		"Sun, 04 Dec 292277026596 15:30:08 GMT": Max,
		"Sun, 99 Dec 292277026596 15:30:08 GMT": 0,
		"Thu, 01 Jan 1970 00:00:00 GMT":         0,
		"Mon, 23 Nov 2026 12:00:30 GMT, Mon, 23 Nov 2026 12:00:30 GMT": 0,
		strings.Repeat("9", 100_000):                                   Max,
	}
	for value, want := range tests {
		header := http.Header{}
		if value != "" {
			header.Set("Retry-After", value)
		}
		assert.Equal(t, want, Of(header, now), "%q", value)
	}
}

func TestLongestRetryAfterIsObeyed(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for want, values := range map[time.Duration][]string{
		2 * time.Minute:  {"5", "120", "60"},
		30 * time.Second: {"soon", "Mon, 23 Nov 2026 12:00:30 GMT", "-7"},
		0:                {"soon", "later"},
	} {
		assert.Equal(t, want, Of(http.Header{"Retry-After": values}, now), "%q", values)
	}
}

func TestRetryAfterIsComparedWithTheAnswersDate(t *testing.T) {
	ours := time.Date(1970, 1, 1, 0, 0, 9, 0, time.UTC)
	header := http.Header{"Retry-After": {"Mon, 23 Nov 2026 12:00:30 GMT"}, "Date": {"Mon, 23 Nov 2026 12:00:00 GMT"}}
	assert.Equal(t, 30*time.Second, Of(header, ours))
	header.Set("Date", "yesterday")
	assert.Equal(t, Max, Of(header, ours))
}

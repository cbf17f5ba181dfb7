// Package retryafter reads how long an answer asks to wait.
package retryafter

import (
	"net/http"
	"regexp"
	"strings"
	"time"
)

// Max is the longest wait that is returned: far beyond whatever obeys it, and far below
// an overflow.
const Max = 10 * 365 * 24 * time.Hour

// Of returns how long an answer asks to wait (RFC 9110, 10.2.3), in seconds or
// until a date, but at most Max. It returns 0 for any other value, for 0 and for a
// date that has passed: then the caller alone decides.
//
// A date is compared with the answer's own Date, if there is one, because the two come
// from one clock, which may differ from ours. There are several headers if a proxy has
// added one: then the longest wait respects them all.
func Of(header http.Header, now time.Time) time.Duration {
	values := header.Values("Retry-After")
	if len(values) == 0 {
		return 0
	}
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		now = date
	}
	var longest time.Duration
	for _, value := range values {
		longest = max(longest, waitOf(strings.TrimSpace(value), now))
	}
	return longest
}

var (
	secondsRegexp = regexp.MustCompile(`^[0-9]+$`)

	// farYearRegexp finds a date whose year is too long for http.ParseTime.
	farYearRegexp = regexp.MustCompile(`^([A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} )[0-9]{5,}( [0-9]{2}:[0-9]{2}:[0-9]{2} GMT)$`)
)

// waitOf parses one value of Retry-After.
func waitOf(value string, now time.Time) time.Duration {
	if secondsRegexp.MatchString(value) {
		seconds := strings.TrimLeft(value, "0")
		if len(seconds) > 9 { // 31 years and more
			return Max
		}
		var n int64
		for _, digit := range seconds {
			n = 10*n + int64(digit-'0')
		}
		return min(time.Duration(n)*time.Second, Max)
	}
	at, err := http.ParseTime(farYearRegexp.ReplaceAllString(value, "${1}9996${2}")) // a leap year
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now), Max))
}

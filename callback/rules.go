package callback

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Images of avatar tasks may come with the URL of a bucket that is also published at a
// public host. Fotor's own plugin for Dify (fotor-ai/dify-plugin-broker,
// tools/openapi/client.py) replaces the one by the other.
const (
	BucketPrefix = "s3://img-pub-fotor/"
	BucketURL    = "https://pub-static.fotor.com/"
)

// The limits of Rules.
const (
	minMappedStatus = 3
	maxMappedStatus = maxSmall
	maxURLPrefixes  = 100
	maxURLPrefix    = 1024
)

// Rules are what a user may decide about callbacks. Nil means the rules of Fotor's
// document alone.
type Rules struct {
	statuses map[int]inbox.Status
	prefixes []urlPrefix // the longest first
}

// urlPrefix is a prefix of URLs and its replacement in the event, both as they are
// spelled within a JSON string.
type urlPrefix struct{ prefix, replacement []byte }

// NewRules makes rules.
//
// statuses maps status numbers beyond 0, 1 and 2, from 3 to 999, to their meaning:
// "in_progress", "completed" or "failed".
//
// urls maps prefixes of result URLs and of URLs of images to what the event has in
// their place. Prefixes are compared byte for byte, and the longest that matches is
// replaced; one that is its own replacement leaves URLs as they are. Prefix and
// replacement must be absolute http, https or s3 URLs of at most 1024 bytes that
// include the slash after the host, so that what follows cannot lengthen the host;
// without a fragment, the prefix also without a query. There may be at most 100.
//
// The error joins all that is wrong.
func NewRules(statuses map[int]string, urls map[string]string) (*Rules, error) {
	r := &Rules{statuses: make(map[int]inbox.Status, len(statuses))}
	var errs []error
	for _, number := range slices.Sorted(maps.Keys(statuses)) {
		status, ok := statusNamed(statuses[number])
		switch {
		case number < minMappedStatus || number > maxMappedStatus:
			errs = append(errs, fmt.Errorf("map_status %d: expected a number from %d to %d", number, minMappedStatus, maxMappedStatus))
		case !ok:
			errs = append(errs, fmt.Errorf("map_status %d is %q: expected in_progress, completed or failed", number, statuses[number]))
		default:
			r.statuses[number] = status
		}
	}
	if len(urls) > maxURLPrefixes {
		errs = append(errs, fmt.Errorf("result_url has %d prefixes: expected at most %d", len(urls), maxURLPrefixes))
	}
	for _, prefix := range slices.Sorted(maps.Keys(urls)) {
		replacement := urls[prefix]
		if err := checkURLPrefix(prefix, "?#"); err != nil {
			errs = append(errs, fmt.Errorf("result_url %.100q: the prefix %w", prefix, err))
		} else if err := checkURLPrefix(replacement, "#"); err != nil {
			errs = append(errs, fmt.Errorf("result_url %.100q: the replacement %.100q %w", prefix, replacement, err))
		} else {
			r.prefixes = append(r.prefixes, urlPrefix{inJSON(prefix), inJSON(replacement)})
		}
	}
	slices.SortStableFunc(r.prefixes, func(a, b urlPrefix) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
	return r, errors.Join(errs...)
}

func statusNamed(name string) (inbox.Status, bool) {
	for s := inbox.InProgress; s <= inbox.Failed; s++ {
		if s.String() == name {
			return s, true
		}
	}
	return 0, false
}

// checkURLPrefix returns why s cannot be a prefix of URLs. With one of the forbidden
// characters in it, the rest of a URL would change its meaning.
func checkURLPrefix(s, forbidden string) error {
	switch {
	case len(s) > maxURLPrefix:
		return fmt.Errorf("has %d bytes: expected at most %d", len(s), maxURLPrefix)
	case !utf8.ValidString(s) || !isResultURL([]byte(s)) || !hasPath(s):
		return errors.New("is not what a URL begins with: expected http, https or s3, a host and a path, such as s3://bucket/")
	case strings.ContainsAny(s, forbidden):
		return fmt.Errorf("has one of %q, which it must not", forbidden)
	}
	return nil
}

// hasPath reports whether a URL's authority is followed by a path.
func hasPath(url string) bool {
	_, rest, _ := strings.Cut(url, "://")
	end := strings.IndexAny(rest, "/?#")
	return end >= 0 && rest[end] == '/'
}

// inJSON returns a text as it is spelled within a JSON string. Each character is spelled
// by itself, so the spelling of a prefix is a prefix of the spelling, and vice versa.
func inJSON(s string) []byte {
	quoted, _ := jsontext.AppendQuote(nil, s) // it is valid UTF-8
	return quoted[1 : len(quoted)-1]
}

// status returns the meaning of a status number.
func (r *Rules) status(number int) (s inbox.Status, ok bool) {
	if number <= int(inbox.Failed) {
		return inbox.Status(number), true //nolint:gosec // 0, 1 or 2
	}
	if r != nil {
		s, ok = r.statuses[number]
	}
	return s, ok
}

// appendURL appends a URL as it is in the event.
func (r *Rules) appendURL(b []byte, url jsonString) []byte {
	if url.isNothing() {
		return append(b, jsonNull...)
	}
	if r == nil {
		return append(b, url...)
	}
	for _, p := range r.prefixes {
		if bytes.HasPrefix(url[1:], p.prefix) {
			b = append(append(b, '"'), p.replacement...)
			return append(b, url[1+len(p.prefix):]...)
		}
	}
	return append(b, url...)
}

// leastImage is the least length of an image in a callback without its URL.
const leastImage = int64(len(`{"id":"i","url":"","hasHsfw":true},`))

// MaxEvent returns the largest length of an event's body, in bytes, for that of its
// callback. A template without images grows most: {"templateId":"a","x":1} gets
// "images":[] and "extra":{}, which is less than its own length. So do URLs whose
// prefix has a long replacement.
func (r *Rules) MaxEvent(callback int64) int {
	return int(2*callback+r.growth(callback)) + eventOverhead
}

// growth returns how much the replacement of prefixes can add, at most, to twice the
// length of the callback.
func (r *Rules) growth(callback int64) (most int64) {
	if r == nil {
		return 0
	}
	for _, p := range r.prefixes {
		beyond := int64(len(p.replacement)) - 2*int64(len(p.prefix))
		most = max(most, beyond*(1+callback/(int64(len(p.prefix))+leastImage)))
	}
	return most
}

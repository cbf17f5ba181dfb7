package control

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/clip"
)

const (
	// FeedLength is how many notices a Feed remembers.
	FeedLength = 8192

	// MaxFollowers is how many Followers a Feed may have at once.
	MaxFollowers = 64

	// maxText is the length in bytes to which the texts of a notice are cut.
	maxText = 256
)

// Errors of a Feed.
var (
	// ErrFeedClosed is returned once the handler has stopped.
	ErrFeedClosed = errors.New("the handler has stopped")

	// ErrTooManyFollowers is returned if the feed already has MaxFollowers.
	ErrTooManyFollowers = fmt.Errorf("%d streams are open already, which is the limit for a handler", MaxFollowers)
)

// Feed remembers the last notices of a handler and passes them to its followers. A
// follower that is too slow misses notices, and learns how many: it never delays the
// others or the handler.
type Feed struct {
	name  string
	epoch string

	mu        sync.Mutex
	notices   []Notice // a ring once it has its full length
	next      int64    // number of the next notice; the first is 1
	followers map[*Follower]struct{}
	closed    bool

	// waiting are the followers that have seen everything. Only they are woken: a notice
	// costs nothing for those that are at work, or rest.
	waiting []*Follower
}

// NewFeed makes an empty feed for the handler of that name.
func NewFeed(name string) *Feed {
	return &Feed{
		name:      name,
		epoch:     strconv.FormatUint(rand.Uint64(), 36), //nolint:gosec // it only distinguishes runs
		next:      1,
		followers: make(map[*Follower]struct{}),
	}
}

// Publish passes a notice to all followers. It never waits. It sets Handler and At.
func (f *Feed) Publish(n Notice) {
	for _, text := range []*string{&n.TaskID, &n.Type, &n.Reason} {
		*text = CutText(*text)
	}
	n.Handler, n.At = f.name, time.Now().UTC()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	if len(f.notices) < FeedLength {
		f.notices = append(f.notices, n)
	} else {
		f.notices[(f.next-1)%FeedLength] = n
	}
	f.next++
	f.wake()
}

// wake wakes the followers that wait. The caller has locked mu.
func (f *Feed) wake() {
	for _, follower := range f.waiting {
		follower.waits = false
		select {
		case follower.wake <- struct{}{}:
		default: // it has stopped waiting meanwhile
		}
	}
	clear(f.waiting)
	f.waiting = f.waiting[:0]
}

// CutText returns a text as it stands in a notice.
func CutText(s string) string { return clip.Ellipsis(s, maxText) }

// Close ends the feed: followers get the remaining notices, then ErrFeedClosed.
func (f *Feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.wake()
}

// Follow begins to follow after the notice with that id, which comes from an earlier
// Entry, or with "" from now on. It is an error if no feed makes such ids.
func (f *Feed) Follow(after string) (*Follower, error) {
	epoch, number, err := parseNoticeID(after)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return nil, ErrFeedClosed
	case len(f.followers) >= MaxFollowers:
		return nil, ErrTooManyFollowers
	}
	fo := &Follower{feed: f, next: f.next, wake: make(chan struct{}, 1)}
	switch {
	case after == "":
	case epoch != f.epoch || number >= f.next: // from another run, or made up
		fo.restarted = true
		fo.next = f.oldest()
	default:
		fo.next = number + 1
	}
	f.followers[fo] = struct{}{}
	return fo, nil
}

// oldest returns the number of the oldest remembered notice.
func (f *Feed) oldest() int64 { return f.next - int64(len(f.notices)) }

func parseNoticeID(id string) (epoch string, number int64, err error) {
	if id == "" {
		return "", 0, nil
	}
	epoch, digits, found := strings.Cut(id, "-")
	if found && len(epoch) > 0 && len(epoch) <= 13 {
		if number, err = strconv.ParseInt(digits, 10, 64); err == nil && number >= 0 {
			return epoch, number, nil
		}
	}
	return "", 0, fmt.Errorf("%.64q is no id of a notice: expected one that this stream gave", id)
}

// Follower reads a Feed. It must be used by one goroutine only.
type Follower struct {
	feed      *Feed
	next      int64
	restarted bool
	waits     bool // it is among those that wait; guarded by feed.mu
	wake      chan struct{}
}

// Entry is a notice with its id.
type Entry struct {
	ID string
	Notice
}

// await has the follower woken by the next notice. The caller has locked feed.mu.
func (fo *Follower) await() {
	if !fo.waits {
		fo.waits = true
		fo.feed.waiting = append(fo.feed.waiting, fo)
	}
}

// Position returns the id after which the follower goes on, for a later Follow.
func (fo *Follower) Position() string { return fo.feed.id(fo.next - 1) }

// Next waits for notices and appends up to most of them to dst. If some were missed,
// the first is a Gap. It returns ctx's error once ctx is done, and ErrFeedClosed at the
// feed's end.
func (fo *Follower) Next(ctx context.Context, dst []Entry, most int) ([]Entry, error) {
	for {
		entries, err := fo.take(dst, most)
		if len(entries) > len(dst) || err != nil {
			return entries, err
		}
		select {
		case <-fo.wake:
		case <-ctx.Done():
			return dst, ctx.Err()
		}
	}
}

// Wait waits until something has happened since the last call of Wait or Next, without
// saying what: its cost does not grow with the number of notices. It returns ctx's error
// once ctx is done, and ErrFeedClosed at the feed's end.
func (fo *Follower) Wait(ctx context.Context) error {
	for {
		if happened, err := fo.skip(); happened || err != nil {
			return err
		}
		select {
		case <-fo.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// skip passes over all notices.
func (fo *Follower) skip() (happened bool, err error) {
	f := fo.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	happened = fo.restarted || fo.next < f.next
	fo.restarted, fo.next = false, f.next
	if happened {
		return true, nil
	}
	if f.closed {
		return false, ErrFeedClosed
	}
	fo.await()
	return false, nil
}

func (fo *Follower) take(dst []Entry, most int) ([]Entry, error) {
	f := fo.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	empty := len(dst)
	if missed := f.oldest() - fo.next; fo.restarted || missed > 0 {
		if fo.restarted {
			missed = -1
		}
		fo.restarted = false
		fo.next = max(fo.next, f.oldest())
		dst = append(dst, f.entry(fo.next-1, Notice{Kind: Gap, Handler: f.name, At: time.Now().UTC(), Missed: missed}))
	}
	for len(dst)-empty < most && fo.next < f.next {
		dst = append(dst, f.entry(fo.next, f.notices[(fo.next-1)%FeedLength]))
		fo.next++
	}
	if len(dst) == empty {
		if f.closed {
			return dst, ErrFeedClosed
		}
		fo.await()
	}
	return dst, nil
}

func (f *Feed) entry(number int64, n Notice) Entry {
	return Entry{ID: f.id(number), Notice: n}
}

func (f *Feed) id(number int64) string { return f.epoch + "-" + strconv.FormatInt(number, 10) }

// Close ends the following.
func (fo *Follower) Close() {
	fo.feed.mu.Lock()
	defer fo.feed.mu.Unlock()
	delete(fo.feed.followers, fo)
	fo.feed.waiting = slices.DeleteFunc(fo.feed.waiting, func(other *Follower) bool { return other == fo })
}

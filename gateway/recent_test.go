package gateway

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

var recentEpoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestWhatHappenedLatelyIsForgottenByItself(t *testing.T) {
	now := recentEpoch
	r := newRecent(func() time.Time { return now })
	assert.Equal(t, control.Recent{From: recentEpoch}, r.sum(time.Minute))
	for _, outcome := range []Outcome{
		Accepted, Duplicate, Refused, TooLarge, Invalid, NotJSON, MediaType,
		NotKept, Unavailable, Method, EarlyData, Broken,
	} {
		r.add(outcome)
	}
	r.fails(errors.New("inbox is full"))
	all := control.Recent{
		From: recentEpoch, Accepted: 1, Duplicates: 1, Refused: 1, TooLarge: 1, Invalid: 3, NotKept: 1, Unavailable: 1,
		LastUnavailable: &control.Unavailable{At: recentEpoch, Reason: "inbox is full"},
	}
	assert.Equal(t, all, r.sum(time.Minute))
	now = now.Add(time.Minute)
	assert.Equal(t, all, r.sum(time.Minute))
	now = now.Add(recentStep)
	over := control.Recent{From: recentEpoch.Add(recentStep), LastUnavailable: all.LastUnavailable}
	assert.Equal(t, over, r.sum(time.Minute))
	assert.Equal(t, all, r.sum(2*time.Minute), "who looks back further sees it")
	now = recentEpoch.Add(control.RecentMax + recentStep)
	assert.EqualValues(t, 0, r.sum(99*time.Hour).Unavailable)
	assert.Equal(t, recentEpoch.Add(recentStep), r.sum(99*time.Hour).From, "no more than the longest")
}

// The last minute is counted by the second.
func TestTheLastMinuteOfCallbacksIsCounted(t *testing.T) {
	now := recentEpoch
	r := newRecent(func() time.Time { return now })
	assert.Equal(t, control.Recent{From: recentEpoch}, r.lastMinute())
	for range 150 {
		r.add(Duplicate)
		now = now.Add(time.Second)
	}
	r.fails(errors.New("inbox is full"))
	assert.Equal(t, control.Recent{From: now.Add(-time.Minute).UTC(), Duplicates: 60}, r.lastMinute())
	assert.EqualValues(t, 150, r.sum(time.Hour).Duplicates)
	now = now.Add(minuteStep / 2)
	assert.EqualValues(t, 60, r.lastMinute().Duplicates)
	last := now.Add(-minuteStep * 3 / 2)
	now = now.Add(time.Hour)
	assert.Zero(t, r.lastMinute().Duplicates)
	assert.Equal(t, last, *r.lastCallback())
}

func TestTheReasonOfTheLastFailureIsBounded(t *testing.T) {
	r := newRecent(time.Now)
	r.fails(errors.New(strings.Repeat("€", 1000)))
	assert.Equal(t, strings.Repeat("€", inbox.MaxReason/3), r.sum(time.Minute).LastUnavailable.Reason)
}

// However callbacks come, exactly those since From are counted, and From is no later than
// was asked for.
func TestRecentCountsAgreeWithAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := recentEpoch
		r := newRecent(func() time.Time { return now })
		var came []time.Time
		t.Repeat(map[string]func(*rapid.T){
			"come": func(*rapid.T) {
				r.add(Unavailable)
				came = append(came, now)
			},
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Minute)).Draw(t, "for")))
			},
			"wait a little": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(15*time.Second)).Draw(t, "for")))
			},
			"": func(t *rapid.T) {
				back := time.Duration(rapid.Int64Range(int64(control.RecentMin), int64(control.RecentMax)).Draw(t, "back"))
				sum := r.sum(back)
				var want int64
				for _, at := range came {
					if !at.Before(sum.From) {
						want++
					}
				}
				assert.Equal(t, want, sum.Unavailable)
				assert.False(t, sum.From.After(now.Add(-back)) && sum.From.After(recentEpoch))
				assert.LessOrEqual(t, now.Sub(sum.From), back+2*recentStep)
			},
		})
	})
}

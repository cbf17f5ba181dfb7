package dispatch

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// first is the ticket of a first attempt that began at that time.
func first(began time.Time) ticket { return ticket{began: began, first: true} }

func newPressure(most int) *pressure { return &pressure{most: most, limit: most, own: true} }

func TestARowOfFailuresHalvesTheLimit(t *testing.T) {
	p := newPressure(32)
	p.taken(epoch)
	var limits []int
	for i := range 40 {
		p.failed(first(epoch), fmt.Sprint("task ", i), &down)
		if n := len(limits); n == 0 || limits[n-1] != p.limit {
			limits = append(limits, p.limit)
		}
	}
	assert.Equal(t, []int{32, 16, 8}, limits, "no lower than a quarter: the rest is for a hold")
	for range 100 {
		p.taken(epoch)
	}
	assert.Equal(t, 32, p.limit)
}

func TestASuccessBreaksTheRow(t *testing.T) {
	p := newPressure(32)
	for range 100 {
		for range lowerAfter - 1 {
			p.failed(first(epoch), "task", &down)
		}
		p.taken(epoch)
	}
	assert.Equal(t, 32, p.limit)
}

func TestAnAttemptFromBeforeTheLastSuccessSaysNothing(t *testing.T) {
	p := newPressure(32)
	p.taken(epoch.Add(time.Second))
	for i := range 1000 {
		p.failed(first(epoch), fmt.Sprint(i), &down)
	}
	assert.Equal(t, 32, p.limit)
	assert.Zero(t, p.row)
}

func TestEventsThatFailByThemselvesDoNotLowerTheLimit(t *testing.T) {
	p := newPressure(32)
	p.taken(epoch)
	for i := range 10_000 {
		p.failed(first(epoch), fmt.Sprint(i), &Result{Status: 500})
	}
	assert.Equal(t, 32, p.limit)
	assert.False(t, p.condemns(epoch.Add(quiet-1)), "others were taken a moment ago")
	assert.True(t, p.condemns(epoch.Add(quiet)))
}

func TestRetriesThatFailAgainSayLittle(t *testing.T) {
	p := newPressure(32)
	p.taken(epoch)
	for i := range 10_000 {
		p.failed(ticket{began: epoch}, fmt.Sprint(i), &down)
	}
	assert.False(t, p.condemns(epoch), "those events have failed before")
	for i := range longestRow {
		assert.False(t, p.condemns(epoch))
		p.failed(first(epoch), fmt.Sprint(i), &down)
	}
	assert.True(t, p.condemns(epoch))
}

func TestOneClassThatHangsIsNotTheDestinationsTrouble(t *testing.T) {
	p := newPressure(32)
	for i := range 10_000 {
		p.failed(ticket{began: epoch, first: true, alone: true}, fmt.Sprint(i), &down)
	}
	assert.False(t, p.condemns(epoch))
	p.failed(first(epoch), "other", &down)
	assert.True(t, p.condemns(epoch), "others fail too")
	p.failed(ticket{began: epoch, alone: true}, "task", &down)
	assert.True(t, p.condemns(epoch))
}

func TestWhoseFaultItIs(t *testing.T) {
	for _, c := range []struct {
		r   Result
		own bool
	}{
		{Result{Status: 500}, true},
		{Result{Status: 501}, true},
		{Result{Status: 599}, true},
		{Result{Status: 502}, false},
		{Result{Status: 503}, false},
		{Result{Status: 504}, false},
		{Result{Status: 429}, false},
		{Result{Status: 500, Unreachable: true}, false},
		{Result{}, false},
	} {
		assert.Equal(t, c.own, c.r.ownFault(), "%+v", c.r)
	}
}

func TestTheConfigBoundsTheLimit(t *testing.T) {
	p := newPressure(32)
	p.resize(4)
	assert.Equal(t, 4, p.limit)
	p.resize(64)
	assert.Equal(t, 64, p.limit)
	for range lowerAfter {
		p.failed(first(epoch), "task", &down)
	}
	assert.Equal(t, 32, p.limit)
	p.resize(128)
	assert.Equal(t, 32, p.limit, "what was found out stays")
	p.resize(16)
	assert.Equal(t, 16, p.limit)
}

// Whatever comes, the limit is between one and what is configured, it falls only by
// failures and rises by one for each success, and a destination that has just taken
// an event is not condemned.
func TestPressureIsAlwaysWithinBounds(t *testing.T) {
	results := []Result{down, {Status: 500}, {Status: 503, RetryAfter: time.Minute}, {Status: 429}, {Status: 502}}
	rapid.Check(t, func(t *rapid.T) {
		p := newPressure(rapid.IntRange(1, 64).Draw(t, "most"))
		now := epoch
		t.Repeat(map[string]func(*rapid.T){
			"taken": func(*rapid.T) {
				before := p.limit
				p.taken(now)
				assert.Equal(t, min(before+1, p.most), p.limit)
				assert.False(t, p.condemns(now))
				assert.False(t, p.asked())
			},
			"failed": func(t *rapid.T) {
				before := p.limit
				r := rapid.SampledFrom(results).Draw(t, "result")
				p.failed(first(now), rapid.StringMatching(`[a-e]`).Draw(t, "task"), &r)
				assert.GreaterOrEqual(t, p.limit, before/2)
				assert.LessOrEqual(t, p.limit, before)
			},
			"wait":    func(t *rapid.T) { now = now.Add(time.Duration(rapid.Int64Range(0, int64(quiet)).Draw(t, "for"))) },
			"resize":  func(t *rapid.T) { p.resize(rapid.IntRange(1, 64).Draw(t, "most")) },
			"recover": func(*rapid.T) { p.recover() },
			"": func(t *rapid.T) {
				assert.GreaterOrEqual(t, p.limit, 1)
				assert.LessOrEqual(t, p.limit, p.most)
				assert.LessOrEqual(t, len(p.tasks), runTasks)
				assert.LessOrEqual(t, len(p.askers), 2)
				if p.condemns(now) {
					assert.GreaterOrEqual(t, p.row, runLength)
				}
			},
		})
	})
}

func lease(id string, newest bool) *inbox.Lease {
	return &inbox.Lease{Event: &inbox.Event{ID: id}, Newest: newest}
}

// order pops all and returns what came, with so many attempts at once of which none
// ends.
func order(w *waiting, limit int) (ids string) {
	for w.len() > 0 {
		ids += w.pop(limit).Event.ID
	}
	return ids
}

func TestTheNewestGetAQuarter(t *testing.T) {
	fill := func() *waiting {
		w := new(waiting)
		for range 6 {
			w.push(lease("t", false))
			w.push(lease("n", true))
		}
		return w
	}
	assert.Equal(t, "nnttttttnnnn", order(fill(), 8), "two of eight, and more when nothing else is left")
	assert.Equal(t, "ntntntntntnt", order(fill(), 1), "every other one where there is no quarter")

	w := new(waiting)
	assert.Equal(t, 8, w.newestRoom(32))
	assert.Equal(t, 1, w.newestRoom(1))
	w.push(lease("n", true))
	assert.Equal(t, 7, w.newestRoom(32))
	w.pop(32)
	assert.Equal(t, 7, w.newestRoom(32), "it runs")
	assert.Zero(t, w.newestRoom(4))
}

func TestLittleIsLeasedAheadOfASlowDestination(t *testing.T) {
	var p tempo
	now := epoch
	assert.Equal(t, 1, p.ahead(now, 32))
	for range 7 {
		p.ended(now)
	}
	assert.Equal(t, 7, p.ahead(now, 32))
	assert.Equal(t, 4, p.ahead(now, 4))
	now = now.Add(tempoStep)
	assert.Equal(t, 7, p.ahead(now, 32), "as many as a moment ago")
	now = now.Add(tempoStep)
	assert.Equal(t, 1, p.ahead(now, 32))
}

func TestTheLastMinuteIsCounted(t *testing.T) {
	var l lately
	now := epoch
	for i := range 120 {
		l.add([]kind{trouble, taken, gone, taken}[i%4], now)
		now = now.Add(time.Second)
	}
	assert.Equal(t, tally{attempts: 60, delivered: 30, failed: 15}, l.sum(now.Add(-time.Second)))
	assert.Equal(t, now.Add(-time.Second), l.delivery)
	assert.Zero(t, l.sum(now.Add(time.Hour)))
	assert.Equal(t, now.Add(-time.Second), l.delivery, "the last delivery is remembered for longer")
}

func TestHoldsAreShownOnceAMinute(t *testing.T) {
	var d damper
	now := epoch
	assert.True(t, d.begin(now))
	_, longer := d.goesOn(now)
	assert.True(t, longer)
	assert.True(t, d.end())

	now = now.Add(noticeEvery - 1)
	assert.False(t, d.begin(now))
	began, longer := d.goesOn(now)
	assert.False(t, began || longer)
	assert.False(t, d.end(), "nor is its end")

	assert.False(t, d.begin(now))
	now = now.Add(1)
	began, longer = d.goesOn(now)
	assert.True(t, began, "one that lasts is shown late")
	assert.False(t, longer)
	began, longer = d.goesOn(now)
	assert.True(t, longer && !began)
	assert.True(t, d.end())
}

package dispatch

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// begins starts attempts of a class until one has to wait, and returns how many.
func begins(c *classes, name string, now time.Time) int {
	for n := range 1000 {
		if _, ok := c.begin(name, 32, now); !ok {
			return n
		}
	}
	return 1000
}

func TestAClassThatIsNotAnsweredGetsAPart(t *testing.T) {
	var c classes
	assert.Equal(t, 1000, begins(&c, "alone", epoch), "as long as there is no other")

	c = classes{}
	_, _ = c.begin("well", 32, epoch)
	c.end("well", &ok, epoch)
	_, _ = c.begin("mute", 32, epoch)
	now := epoch.Add(muteFor)
	assert.Equal(t, 23, begins(&c, "mute", now), "three quarters if there was no answer for a while")
	for range 24 {
		c.end("mute", &down, now)
	}
	assert.Equal(t, 8, begins(&c, "mute", now), "a quarter once it is known")
	assert.Equal(t, 1000, begins(&c, "well", now))

	later := epoch.Add(quiet)
	assert.Equal(t, 1000, begins(&c, "mute", later), "when no other is well, it is the destination")
}

func TestABurstOfAClassIsNotHeldUp(t *testing.T) {
	var c classes
	_, _ = c.begin("well", 4, epoch)
	c.end("well", &ok, epoch)
	for i := range 4 {
		_, ok := c.begin("new", 4, epoch)
		assert.True(t, ok, i)
	}
}

func TestAnAnswerFreesItsClass(t *testing.T) {
	for _, r := range []Result{ok, {Status: 500}, {Status: 404}} {
		var c classes
		_, _ = c.begin("well", 32, epoch)
		c.end("well", &ok, epoch)
		_, _ = c.begin("mute", 32, epoch)
		now := epoch.Add(muteFor)
		require.Equal(t, 23, begins(&c, "mute", now))
		c.end("mute", &r, now)
		assert.Equal(t, 1000, begins(&c, "mute", now), "%+v", r)
	}
}

func TestWhatIsPutOffComesInARow(t *testing.T) {
	var c classes
	first := c.putOff(epoch)
	assert.Equal(t, epoch.Add(firstDefer), first)
	assert.Equal(t, first.Add(deferEvery), c.putOff(epoch))
	for range 100_000 {
		due := c.putOff(epoch)
		require.False(t, due.Before(first))
		require.False(t, due.After(epoch.Add(longestPut)))
	}
}

func TestTheNameOfAClassIsBounded(t *testing.T) {
	e := &inbox.Event{Type: strings.Repeat("x", 1<<20), Status: inbox.Completed}
	assert.Equal(t, strings.Repeat("x", maxType)+" completed", classOf(e))
	assert.Equal(t, "avatar failed", classOf(&inbox.Event{Type: "avatar", Status: inbox.Failed}))
}

func TestClassesAreBounded(t *testing.T) {
	var c classes
	for i := range 10 * maxClasses {
		name := fmt.Sprint(i)
		_, _ = c.begin(name, 32, epoch.Add(time.Duration(i)))
		if i >= maxClasses/2 { // the others stay under way
			c.end(name, &ok, epoch)
		}
	}
	assert.Len(t, c.known, maxClasses)
	assert.NotNil(t, c.known["0"])
	for i := range maxClasses {
		_, ok := c.begin(fmt.Sprint("more ", i), 32, epoch)
		assert.True(t, ok, "what is not told apart is not bounded")
		c.end(fmt.Sprint("none ", i), &down, epoch)
	}
	assert.Len(t, c.known, maxClasses)
}

func TestWhatHangsBesideOthersThatAreWellSaysNothingOfTheDestination(t *testing.T) {
	beside := func(well ...Result) *classes { // another class that met these before the mute one began
		c := new(classes)
		for _, r := range well {
			_, _ = c.begin("well", 32, epoch)
			c.end("well", &r, epoch)
		}
		_, _ = c.begin("mute", 32, epoch)
		return c
	}
	hour := epoch.Add(time.Hour)
	assert.True(t, beside(ok).hung("mute", epoch, hour))
	assert.True(t, beside(ok).hung("mute", epoch.Add(quiet-1), hour))
	assert.True(t, beside(down, ok).hung("mute", epoch, hour))
	assert.False(t, beside(ok).hung("mute", epoch.Add(quiet), hour), "it was long ago")
	assert.False(t, beside(ok, down).hung("mute", epoch, hour), "it fails too, since")
	assert.False(t, beside().hung("mute", epoch, hour), "there is no other")
	assert.False(t, beside(ok).hung("mute", epoch, epoch.Add(hangs-1)), "it was answered at once: too many could be made")
	assert.False(t, beside(ok).hung("not told apart", epoch, hour))
}

func TestAClassThatHungGetsAPartThoughNothingElseWasTriedMeanwhile(t *testing.T) {
	var c classes
	_, _ = c.begin("well", 32, epoch)
	c.end("well", &ok, epoch)
	require.Equal(t, 1000, begins(&c, "mute", epoch))
	now := epoch.Add(time.Hour)
	for range 1000 {
		c.hung("mute", epoch, now)
		c.end("mute", &down, now)
	}
	assert.Equal(t, 8, begins(&c, "mute", now))
	assert.Equal(t, 1000, begins(&c, "mute", now.Add(quiet)), "nothing was taken since: it is the destination")
}

func TestProbesCountForTheirClass(t *testing.T) {
	var c classes
	c.probe("well", epoch)
	c.end("well", &ok, epoch)
	for range muteRow {
		c.probe("mute", epoch)
		c.end("mute", &down, epoch)
	}
	c.probe("mute", epoch)
	assert.Equal(t, 7, begins(&c, "mute", epoch), "one of a quarter is the probe")
}

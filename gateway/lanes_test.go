package gateway

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/dispatch"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/match"
)

func atCrossing(t *testing.T, test func(t *testing.T, c *crossing)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newCrossing(t)) })
}

const leftLineText = "deliveries are left behind for a destination that the config does not name"

func refuse(context.Context) dispatch.Result {
	return dispatch.Result{Unreachable: true, Reason: "connection refused"}
}

func TestAnEventGoesWhereItFits(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		c.load("a", to("app"), to("video", "video", "film"))
		assert.Equal(t, []string{"app"}, c.put("1", "avatar"))
		assert.Equal(t, []string{"app", "video"}, c.put("2", "film"))
		pass(time.Minute)
		c.load("b", to("default"), to("video", "video"))
		assert.Nil(t, c.put("3", "avatar"), "as an event without destinations")
		assert.Equal(t, []string{"default", "video"}, c.put("4", "video"))
		c.load("c", to("video", "video"))
		none := c.put("5", "avatar")
		assert.NotNil(t, none)
		assert.Empty(t, none, "it fits none")
		pass(time.Minute) // what waits for a destination when that goes is not delivered
		c.load("d", to("default"))
		assert.Nil(t, c.put("6", "video"))
		c.load("e", to("default", "video"))
		assert.Equal(t, []string{}, c.put("7", "avatar"))
		pass(time.Minute)
		for name, want := range map[string]int64{"app": 2, "video": 2, "default": 3} {
			pending, delivered := c.deliveries(name)
			assert.Zero(t, pending, name)
			assert.Equal(t, want, delivered, name)
		}
	})
}

func TestAReleasedCallbackGoesWhereItFits(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		c.load("a", to("app", "avatar"), to("video", "video"))
		_, err := c.operator().Release(t.Context(), 1)
		require.NoError(t, err)
		assert.Equal(t, []string{"video"}, c.depot.order["released"])
	})
}

func TestWhatCannotBeJudgedIsDeliveredLoggedAndCounted(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		picky, err := match.Compile(&match.Rules{Expressions: []string{`event.extra.plan == "pro"`}})
		require.NoError(t, err)
		c.load("a", to("app"), Destination{Name: "picky", Match: picky})
		for i := range 1000 {
			assert.Equal(t, []string{"app", "picky"}, c.put(fmt.Sprint(i), "avatar"))
		}
		assert.Equal(t, 1000, c.metrics.failed)
		lines := c.logs.FilterMessage("it cannot be told whether an event goes to a destination, so it does").All()
		require.Len(t, lines, faultsAtOnce)
		assert.Equal(t, "picky", lines[0].ContextMap()["destination"])
		assert.Equal(t, "no such key: plan", lines[0].ContextMap()["error"])
	})
}

func TestOneDestinationThatIsDownHoldsUpNoOther(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		c.load("a", to("down"), to("slow"), to("well"))
		c.answers("down", refuse)
		c.answers("slow", func(context.Context) dispatch.Result {
			time.Sleep(29 * time.Second)
			return dispatch.Result{Status: 204}
		})
		for i := range 500 {
			c.put(fmt.Sprint(i), "avatar")
		}
		pass(time.Second)
		pending, delivered := c.deliveries("well")
		assert.Zero(t, pending)
		assert.EqualValues(t, 500, delivered)
		holds := c.operator().Holds()
		require.Len(t, holds.Holds, 1)
		assert.Equal(t, "down", holds.Holds[0].Destination)
		assert.Equal(t, 1, holds.Pressure.Limit, "of the one under most pressure")
		assert.Equal(t, 32, holds.UnderWay, "of all of them")
		lines := c.logs.FilterMessage(heldInTrouble).All()
		require.Len(t, lines, 1)
		assert.Equal(t, "down", lines[0].ContextMap()["destination"])
		pass(time.Hour)
		pending, _ = c.deliveries("slow")
		assert.Zero(t, pending)
		pending, _ = c.deliveries("down")
		assert.EqualValues(t, 500, pending)
	})
}

// A reload that adds, removes and keeps destinations: what is kept goes on in the same
// lane with the new settings, what is removed gets nothing more and hands back what it
// had, what is added gets what is accepted from then on.
func TestAReloadChangesDestinations(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		c.load("a", to("kept"), to("removed"))
		kept := c.atts[0].gateway.lane("kept")
		c.answers("removed", refuse)
		for i := range 50 {
			c.put(fmt.Sprint(i), "avatar")
		}
		pass(time.Second)
		require.NoError(t, c.attach(c.config("b", to("added"), to("kept"))))
		assert.Equal(t, []string{"kept", "removed"}, c.put("overlap", "avatar"), "the newer one may still fail")
		c.detach(0)
		tried := c.visits("a/removed")
		c.answers("removed", nil)
		assert.Same(t, kept, c.atts[0].gateway.lane("kept"))
		assert.Equal(t, []string{"added", "kept"}, c.put("after", "avatar"))
		pass(24 * time.Hour)
		assert.Equal(t, tried, c.visits("a/removed"), "nothing more goes there")
		assert.Equal(t, 1, c.visits("b/added"))
		assert.Equal(t, 2, c.visits("b/kept"), "with the new settings")
		assert.Equal(t, 50, c.visits("a/kept"))
		pending, _ := c.deliveries("removed")
		assert.EqualValues(t, 51, pending, "nothing is lost")
		assert.Empty(t, c.depot.queues["removed"].leased, "all was handed back")
		assert.Equal(t, map[string]bool{"added": true, "kept": true}, c.metrics.kept)

		c.load("c", to("kept"), to("removed")) // and back
		pass(time.Minute)
		pending, delivered := c.deliveries("removed")
		assert.Zero(t, pending)
		assert.EqualValues(t, 51, delivered)
	})
}

func TestAReloadThatFailsChangesNothing(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		c.load("a", to("app"), to("old"))
		lane := c.atts[0].gateway.lane("app")

		c.depot.change(func() { c.depot.noQueue = "zulu" }) // it fails before it is in force
		err := c.attach(c.config("b", to("app"), to("new"), to("zulu")))
		require.EqualError(t, err, `opening the queue of destination "zulu": no room for a queue`)
		assert.Nil(t, c.atts[0].gateway.lane("new"))

		require.NoError(t, c.attach(c.config("c", to("app"), to("new")))) // it fails after that
		assert.Equal(t, []string{"app", "old"}, c.put("1", "avatar"))
		pass(time.Second)
		assert.Equal(t, 1, c.visits("c/app"), "the newest settings are in use meanwhile")
		c.detach(1)
		assert.Nil(t, c.atts[0].gateway.lane("new"))
		assert.Same(t, lane, c.atts[0].gateway.lane("app"))
		assert.Equal(t, []string{"app", "old"}, c.put("2", "avatar"))
		pass(time.Minute)
		assert.Equal(t, 1, c.visits("a/app"))
		assert.Equal(t, 2, c.visits("a/old"))
		assert.Equal(t, map[string]bool{"app": true, "old": true}, c.metrics.kept)
		assert.Zero(t, c.logs.FilterMessage(leftLineText).Len())
	})
}

// Reloads in any order never leave two dispatchers at one queue, and lose nothing.
func TestManyReloadsUnderLoad(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		sets := [][]string{{"a", "b"}, {"b", "c"}, {"c"}, {"a", "b", "c"}, {"default"}}
		put := make(map[string]int64)
		for i := range 1000 {
			var destinations []Destination
			for _, name := range sets[(i*i+i/7)%len(sets)] {
				destinations = append(destinations, to(name))
			}
			require.NoError(t, c.attach(c.config("x", destinations...)))
			if i > 0 && i%3 == 0 {
				c.detach(len(c.atts) - 1) // the load fails
			} else if len(c.atts) > 1 {
				c.detach(0)
			}
			e := &inbox.Event{Destinations: c.put(fmt.Sprint(i), "avatar")}
			for _, name := range e.GoesTo() {
				put[name]++
			}
			if i%10 == 0 {
				synctest.Wait()
			}
		}
		c.load("all", to("a"), to("b"), to("c"), to("default"))
		pass(time.Minute)
		require.Len(t, put, 4)
		for name, want := range put {
			pending, delivered := c.deliveries(name)
			assert.Zero(t, pending, name)
			assert.Equal(t, want, delivered, name)
		}
		assert.Zero(t, c.logs.FilterMessage("deliveries: inbox").Len())
	})
}

// However many destinations do not let go, a stop takes one grace period.
func TestDestinationsStopAtTheSameTime(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		destinations := make([]Destination, inbox.MaxDestinations)
		for i := range destinations {
			destinations[i] = to(fmt.Sprintf("d%02d", i))
			c.answers(destinations[i].Name, func(ctx context.Context) dispatch.Result {
				<-ctx.Done()
				time.Sleep(2 * time.Second)
				return dispatch.Result{Cancelled: true}
			})
		}
		c.load("a", destinations...)
		c.put("1", "avatar")
		synctest.Wait()
		began := time.Now()
		c.detach(0)
		assert.Equal(t, 3*time.Second, time.Since(began), "the grace period, and until the attempts notice")
	})
}

func TestHoldsByHandAreOfOneDestinationOrAll(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		held := func() (names []string) {
			for _, h := range c.operator().Holds().Holds {
				names = append(names, h.Destination)
			}
			return names
		}
		c.load("a", to("app"), to("staging"))
		require.NoError(t, c.operator().Hold(t.Context(), "staging", "work", time.Time{}))
		c.put("1", "avatar")
		pass(time.Minute)
		assert.Equal(t, []string{"staging"}, held())
		assert.Equal(t, 1, c.visits("a/app"))
		assert.Zero(t, c.visits("a/staging"))
		assert.Equal(t, 0, c.operator().Holds().Pressure.Limit)

		require.NoError(t, c.operator().Hold(t.Context(), "", "", time.Time{}))
		assert.Equal(t, []string{"app", "staging"}, held())
		c.load("b", to("app"), to("staging"), to("third"))
		assert.Equal(t, []string{"app", "staging"}, held(), "they outlive a reload")
		require.NoError(t, c.operator().Resume(t.Context(), "app"))
		assert.Equal(t, []string{"staging"}, held())

		for _, do := range []func(string) error{
			func(name string) error { return c.operator().Hold(t.Context(), name, "", time.Time{}) },
			func(name string) error { return c.operator().Resume(t.Context(), name) },
		} {
			err := do("nowhere")
			require.ErrorIs(t, err, inbox.ErrNotFound)
			require.ErrorContains(t, err, `destination "nowhere": expected app, staging, third`)
		}
		c.load("c", to("app"))
		require.ErrorIs(t, c.operator().Resume(t.Context(), "staging"), inbox.ErrNotFound)
		c.load("d", to("app"), to("staging"))
		assert.Equal(t, []string{"staging"}, held(), "and while the destination is gone")
		require.NoError(t, c.operator().Resume(t.Context(), ""))
		assert.Empty(t, held())
		pass(time.Minute)
		assert.Equal(t, 1, c.visits("d/staging"))
	})
}

// If one destination cannot be held, the others are, and the error says which is not.
func TestAHoldOfAllThatFailsForOneSaysSo(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		c.load("a", to("app"), to("staging"))
		c.depot.change(func() { c.depot.queues["app"].holdErr = errors.New("disk full") })
		err := c.operator().Hold(t.Context(), "", "", time.Time{})
		require.EqualError(t, err, `destination "app": disk full`)
		require.Len(t, c.operator().Holds().Holds, 1)
		assert.Equal(t, "staging", c.operator().Holds().Holds[0].Destination)
	})
}

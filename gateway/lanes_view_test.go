package gateway

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func TestOperatorsSeeEachDestination(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		c.load("a", to("app"), to("gone"), to("old"))
		c.answers("gone", refuse)
		c.put("1", "avatar")
		pass(time.Minute)
		c.load("b", to("app"), to("new"))
		require.NoError(t, c.operator().Hold(t.Context(), "new", "", time.Time{}))
		assert.Equal(t, []string{"app", "new"}, c.operator().Destinations())
		all := c.operator().Summary(t.Context(), time.Minute).Destinations
		full := &control.Pressure{Limit: 32, Concurrency: 32}
		for i := range all {
			all[i].OldestPending, all[i].LastDelivery = nil, nil
			if all[i].Pressure != nil {
				all[i].Pressure.Attempts, all[i].Pressure.Delivered = 0, 0
			}
		}
		holds := c.operator().Holds().Holds
		assert.Equal(t, []control.Destination{
			{Name: "app", Configured: true, Deliveries: &control.Counts{Delivered: 1}, Pressure: full, Holds: []control.Hold{}},
			{Name: "gone", Deliveries: &control.Counts{Pending: 1}, Holds: []control.Hold{}},
			{Name: "new", Configured: true, Deliveries: &control.Counts{}, Pressure: &control.Pressure{Concurrency: 32}, Holds: holds},
		}, all, "old has nothing left")

		c.depot.change(func() { c.depot.statsErr = errors.New("away") })
		summary := c.operator().Summary(t.Context(), time.Minute)
		assert.Equal(t, "away", summary.Error)
		require.Len(t, summary.Destinations, 2)
		assert.Nil(t, summary.Destinations[0].Deliveries)
	})
}

// What was seen of a handler outlives reloads; only the time of the config is new.
func TestOperatorsSeeWhenSomethingHappenedLast(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		begun := time.Now()
		at := func(d time.Duration) *time.Time { return new(begun.Add(d).UTC()) }
		c.load("a", to("app"), to("down"))
		c.answers("down", refuse)
		none := c.operator().Summary(t.Context(), time.Minute)
		assert.Equal(t, *at(0), none.ConfigLoaded)
		assert.Equal(t, control.Recent{From: begun.UTC()}, none.LastMinute)
		assert.Nil(t, none.LastCallback)
		assert.Nil(t, none.Destinations[0].LastDelivery)

		pass(100 * time.Second)
		c.ref.journal.Count(Accepted) // the handler counts
		c.put("1", "avatar")
		pass(10 * time.Second)
		c.ref.journal.Count(Refused)
		pass(20 * time.Second)
		c.load("b", to("app"), to("down"))
		s := c.operator().Summary(t.Context(), time.Minute)
		assert.Equal(t, *at(130 * time.Second), s.ConfigLoaded)
		assert.Equal(t, control.Recent{From: begun.Add(70 * time.Second).UTC(), Accepted: 1, Refused: 1}, s.LastMinute)
		assert.Equal(t, at(100*time.Second), s.LastCallback, "a caller that was refused called nobody back")
		assert.Equal(t, at(100*time.Second), s.Destinations[0].LastDelivery)
		assert.Equal(t, 1, s.Destinations[0].Pressure.Delivered)
		assert.Nil(t, s.Destinations[1].LastDelivery)
		assert.Zero(t, s.Destinations[1].Pressure.Delivered)
		assert.NotZero(t, s.Destinations[1].Pressure.Failed)

		require.NoError(t, c.attach(c.config("c", to("app"))))
		c.detach(1) // the load has failed
		assert.Equal(t, *at(130 * time.Second), c.operator().Summary(t.Context(), time.Minute).ConfigLoaded)

		pass(time.Minute)
		s = c.operator().Summary(t.Context(), time.Minute)
		assert.Equal(t, control.Recent{From: begun.Add(130 * time.Second).UTC()}, s.LastMinute)
		assert.Equal(t, at(100*time.Second), s.LastCallback)
		assert.Equal(t, at(100*time.Second), s.Destinations[0].LastDelivery)
		assert.Zero(t, s.Destinations[0].Pressure.Delivered)
	})
}

func TestWhatIsLeftBehindIsLogged(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		lines := func() int { return c.logs.FilterMessage(leftLineText).Len() }
		c.load("a", to("app"), to("gone"))
		c.answers("gone", refuse)
		c.put("1", "avatar")
		pass(time.Second)
		require.NoError(t, c.attach(c.config("b", to("app"))))
		WarnLeftBehind(t.Context(), c.atts[1:])
		assert.Zero(t, lines(), "it is still delivered")
		c.detach(0)
		require.Equal(t, 1, lines())
		assert.Equal(t, map[string]any{
			"destination": "gone", "pending": int64(1), "dead": int64(0),
			"advice": "name it again, replay them to another one with --to, or purge them",
		}, c.logs.FilterMessage(leftLineText).All()[0].ContextMap())

		for range 100 {
			c.load("b", to("app"))
			WarnLeftBehind(t.Context(), c.atts)
		}
		assert.Equal(t, 1, lines(), "not with each reload")
		pass(leftAgain)
		c.load("b", to("app"))
		assert.Equal(t, 2, lines(), "but after a while")
		c.depot.change(func() { c.depot.queues["gone"].counts[inbox.Dead] = 7 })
		c.load("b", to("app"))
		assert.Equal(t, 3, lines(), "and if it has changed")
		c.load("c", to("app"), to("gone"))
		c.load("b", to("app"))
		assert.Equal(t, 4, lines(), "and if it was configured meanwhile")

		c.depot.change(func() { c.depot.statsErr = errors.New("away") })
		c.load("b", to("app"))
		assert.Equal(t, 1, c.logs.FilterMessage("it cannot be read whether deliveries wait for destinations that the config does not name").Len())
	})
}

// After a restart it is the new config's start that logs them.
func TestWhatIsLeftBehindIsLoggedAtAStart(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		c.depot.queues["gone"] = &depotQueue{depot: c.depot, counts: [len(inbox.States)]int64{inbox.Dead: 3}}
		c.load("a", to("app"))
		c.depot.change(func() { c.depot.statsErr = errors.New("away") })
		assert.Zero(t, c.logs.FilterMessage(leftLineText).Len())
		go WarnLeftBehind(t.Context(), c.atts)
		pass(10 * leftRetry)
		assert.Equal(t, 1, c.logs.Len(), "that it cannot be read is told once")
		c.depot.change(func() { c.depot.statsErr = nil })
		pass(leftRetry)
		assert.Equal(t, 1, c.logs.FilterMessage(leftLineText).Len())
	})
}

func TestABrokenInboxIsOpenedAnewForEachDestination(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		c.load("a", to("app"), to("old"))
		broken := c.depot
		c.depot = newDepot()
		broken.change(func() { broken.broken = inbox.ErrBroken })
		require.NoError(t, c.attach(c.config("b", to("app"), to("new"))))
		assert.Equal(t, []string{"app", "old"}, c.put("1", "avatar"), "by the config that still holds")
		pass(time.Second)
		c.detach(0)
		assert.Equal(t, []string{"app", "new"}, c.put("2", "avatar"))
		pass(time.Minute)
		for name, want := range map[string]int64{"app": 2, "old": 1, "new": 1} {
			_, delivered := c.deliveries(name)
			assert.Equal(t, want, delivered, name)
		}
		assert.Len(t, c.atts[0].gateway.running(), 2)
	})
}

// Requests outlive the configs: what one still stores goes where the last config said.
func TestARequestOutlivesItsConfig(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		c.load("a", to("app"), to("staging"))
		g, err := c.ref.Hold(t.Context())
		require.NoError(t, err)
		c.detach(0)
		e := &inbox.Event{ID: "id", TaskID: "late", Type: "avatar", ReceivedAt: time.Now()}
		_, err = c.ref.Put(t.Context(), g, e, c.source, nil)
		require.NoError(t, err)
		require.NoError(t, g.Drop())
		assert.Equal(t, []string{"app", "staging"}, c.depot.order["late"])
		c.load("b", to("app"), to("staging"))
		pass(time.Minute)
		pending, delivered := c.deliveries("staging")
		assert.Zero(t, pending)
		assert.EqualValues(t, 1, delivered)
	})
}

// Notices of attempts and holds say of which destination they are.
func TestNoticesNameTheDestination(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		follower, err := c.ref.journal.feed.Follow("")
		require.NoError(t, err)
		defer follower.Close()
		c.load("a", to("app"), to("down"))
		c.answers("down", refuse)
		for i := range 5 {
			c.put(fmt.Sprint(i), "avatar")
		}
		pass(time.Minute)
		require.NoError(t, c.operator().Hold(t.Context(), "app", "", time.Time{}))
		require.NoError(t, c.operator().Resume(t.Context(), "app"))
		synctest.Wait()
		entries, err := follower.Next(t.Context(), nil, 1000)
		require.NoError(t, err)
		seen := make(map[string][]string)
		for _, e := range entries {
			if !slices.Contains(seen[e.Kind], e.Destination) {
				seen[e.Kind] = append(seen[e.Kind], e.Destination)
			}
		}
		assert.Equal(t, []string{""}, seen[control.Accepted])
		assert.Equal(t, []string{"app"}, seen[control.Delivered])
		assert.ElementsMatch(t, []string{"app", "down"}, seen[control.Held])
		assert.Equal(t, []string{"app"}, seen[control.Resumed])
		assert.Equal(t, []string{"down"}, seen[control.GivenBack])
		assert.Equal(t, "app", eventData(&control.Notice{Destination: "app"})["destination"])
	})
}

func TestTheMostPressureIsTheSmallestShare(t *testing.T) {
	of := func(limit, concurrency int) control.Pressure {
		return control.Pressure{Limit: limit, Concurrency: concurrency}
	}
	assert.True(t, underMore(of(8, 32), of(1, 1)))
	assert.True(t, underMore(of(0, 1), of(1, 4096)))
	assert.False(t, underMore(of(32, 32), of(1, 1)))
	assert.False(t, underMore(of(1, 2), of(16, 32)))
}

// A long request of an operator learns that a reload has removed a destination meanwhile.
func TestOperatorLearnsOfAReload(t *testing.T) {
	atCrossing(t, func(t *testing.T, c *crossing) {
		c.load("a", to("app"), to("staging"))
		o := c.operator()
		require.NoError(t, control.Configured(o, "staging"))
		c.load("b", to("app"), to("archive"))
		require.ErrorIs(t, control.Configured(o, "staging"), control.ErrNoDestination)
		require.ErrorIs(t, o.Hold(t.Context(), "staging", "", time.Time{}), inbox.ErrNotFound)
		assert.Equal(t, []string{"app", "archive"}, o.Destinations())
	})
}

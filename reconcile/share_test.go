package reconcile

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/fotorapi"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func TestOneAloneAsksAtTheWholeRateAfterAWhile(t *testing.T) {
	inGroup(t, func(t *testing.T, r *registry) {
		began := time.Now()
		m := newMember(r, "a", 2)
		defer m.leave()
		time.Sleep(countsFor - time.Millisecond)
		assert.Zero(t, m.questions(), "others may not know of it yet")
		assert.Equal(t, ShareState{Askers: 1, Rate: 2}, m.State())
		time.Sleep(10 * time.Second)
		assert.Equal(t, ShareState{Open: true, Askers: 1, Rate: 2}, m.State())
		assert.InDelta(t, 20, m.questions(), 1)
		assert.GreaterOrEqual(t, m.question(0).Sub(began), countsFor)
	})
}

func TestOneThatJoinsIsKnownToAllBeforeItAsks(t *testing.T) {
	inGroup(t, func(t *testing.T, r *registry) {
		a := newMember(r, "a", 2)
		defer a.leave()
		time.Sleep(time.Minute)
		b := newMember(r, "b", 2)
		defer b.leave()
		time.Sleep(registerEvery + time.Millisecond)
		assert.InDelta(t, 1, a.budget.Rate(), 1e-9, "it lowers its part at once")
		assert.Zero(t, b.questions())
		time.Sleep(countsFor)
		before := a.questions() + b.questions()
		time.Sleep(time.Minute)
		assert.InDelta(t, 120, a.questions()+b.questions()-before, 2)
		assert.InDelta(t, 60, b.questions(), 3)
	})
}

func TestThePartOfOneThatLeavesOrDiesGoesToTheOthers(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*member)
		most time.Duration
	}{
		"it leaves": {(*member).leave, registerEvery + countsFor + registerEvery},
		"it dies":   {(*member).die, inbox.AskerLife + registerEvery + countsFor + registerEvery},
	} {
		t.Run(name, func(t *testing.T) {
			inGroup(t, func(t *testing.T, r *registry) {
				a, b := newMember(r, "a", 2), newMember(r, "b", 2)
				defer a.leave()
				time.Sleep(time.Minute)
				ended := time.Now()
				c.end(b)
				for a.budget.Rate() < 2 {
					time.Sleep(time.Millisecond)
				}
				took := time.Since(ended)
				assert.LessOrEqual(t, took, c.most)
				assert.Greater(t, took, countsFor-registerEvery, "not at once, as it may be a mistake")
				assert.Equal(t, 1, a.State().Askers)
			})
		})
	}
}

func TestOneThatIsCutOffStopsBeforeOthersAskMore(t *testing.T) {
	inGroup(t, func(t *testing.T, r *registry) {
		a, b := newMember(r, "a", 4), newMember(r, "b", 4)
		defer a.leave()
		defer b.leave()
		time.Sleep(time.Minute)
		b.setCut(true)
		cut := time.Now()
		for a.State().Askers > 1 {
			time.Sleep(time.Millisecond)
		}
		last := b.question(b.questions() - 1)
		assert.LessOrEqual(t, last.Sub(cut), countsFor)
		assert.Greater(t, time.Since(last), time.Second)
		state := b.State()
		assert.False(t, state.Open)
		require.Error(t, state.Reason)
		asked := b.questions()

		b.setCut(false)
		time.Sleep(countsFor - time.Millisecond)
		assert.Equal(t, asked, b.questions(), "it is a newcomer")
		time.Sleep(time.Minute)
		assert.Greater(t, b.questions(), asked+100)
		assert.NoError(t, b.State().Reason)
	})
}

func TestATurnThatComesAfterThePartHasLapsedIsNotUsed(t *testing.T) {
	inGroup(t, func(t *testing.T, r *registry) {
		m := newMember(r, "a", 0.05) // three in a minute
		defer m.leave()
		time.Sleep(time.Minute)
		m.setCut(true) // it waits for a turn
		asked := m.questions()
		time.Sleep(time.Hour)
		assert.Equal(t, asked, m.questions())
	})
}

// Somebody has removed the storage of the registrations, or its clock has jumped.
func TestRegistrationsThatGetLostGiveNobodyMore(t *testing.T) {
	inGroup(t, func(t *testing.T, r *registry) {
		a, b := newMember(r, "a", 2), newMember(r, "b", 2)
		defer a.leave()
		defer b.leave()
		time.Sleep(time.Minute)
		for range 20 {
			r.lose()
			for range 70 {
				time.Sleep(100 * time.Millisecond)
				require.InDelta(t, 1, a.budget.Rate(), 1e-9)
				require.InDelta(t, 1, b.budget.Rate(), 1e-9)
			}
		}
	})
}

func TestTheLowestRateOfAllCounts(t *testing.T) {
	inGroup(t, func(t *testing.T, r *registry) {
		a, b := newMember(r, "a", 10), newMember(r, "b", 4)
		defer a.leave()
		time.Sleep(time.Minute)
		assert.InDelta(t, 2, a.budget.Rate(), 1e-9)
		assert.InDelta(t, 2, b.budget.Rate(), 1e-9)
		b.leave()
		time.Sleep(time.Minute)
		assert.InDelta(t, 10, a.budget.Rate(), 1e-9)
	})
}

func TestAReloadWaitsForNothing(t *testing.T) {
	inGroup(t, func(t *testing.T, r *registry) {
		a, b := newMember(r, "a", 2), newMember(r, "b", 2)
		defer a.leave()
		defer b.leave()
		time.Sleep(time.Minute)
		reloaded := &member{registry: r, budget: fotorapi.NewAdaptive(2)}
		asker := a.Use(reloaded, 2)
		assert.InDelta(t, 1, reloaded.budget.Rate(), 1e-9)
		began := time.Now()
		_, err := asker.Turn(t.Context())
		require.NoError(t, err)
		assert.Zero(t, time.Since(began))
		c := newMember(r, "c", 2)
		defer c.leave()
		time.Sleep(time.Minute)
		assert.InDelta(t, 2.0/3, reloaded.budget.Rate(), 1e-9)
	})
}

func TestWhoWaitsForAPartEndsWithItsContext(t *testing.T) {
	inGroup(t, func(t *testing.T, r *registry) {
		m := newMember(r, "a", 2)
		m.setCut(true)
		defer m.leave()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := sharedAsker{m.Share, m}.Turn(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestChangesAreToldOnce(t *testing.T) {
	inGroup(t, func(t *testing.T, r *registry) {
		a := newMember(r, "a", 2)
		defer a.leave()
		time.Sleep(time.Minute)
		b := newMember(r, "b", 2)
		defer b.leave()
		time.Sleep(time.Minute)
		a.setCut(true)
		time.Sleep(time.Minute)
		var told []string
		for _, s := range a.told() {
			told = append(told, fmt.Sprint(s.Open, s.Askers, s.Reason))
		}
		assert.Equal(t, []string{"false 1 <nil>", "true 1 <nil>", "true 2 <nil>", "false 2 away"}, told)
		c := newMember(r, "c", 2)
		c.setCut(true)
		time.Sleep(time.Minute)
		c.leave()
		require.Len(t, c.told(), 1, "that it fails from the beginning")
		assert.Error(t, c.told()[0].Reason)
	})
}

// Whatever happens to the members, all together never ask more often than the rate allows:
// in no window are there more questions than that, and one for each member, because they do
// not ask in step.
func TestTogetherTheRateIsNeverExceeded(t *testing.T) {
	const rate, most = 5.0, 6
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inGroup(t, func(t *testing.T, r *registry) {
				chance := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // the same each time
				var alive, all []*member
				for i := range 150 {
					at := 0
					if len(alive) > 0 {
						at = chance.IntN(len(alive))
					}
					switch what := chance.IntN(6); {
					case len(alive) == 0, what == 0 && len(alive) < most:
						m := newMember(r, fmt.Sprint(i), rate)
						m.mu.Lock()
						m.slow = time.Duration(chance.IntN(1500)) * time.Millisecond
						m.mu.Unlock()
						alive, all = append(alive, m), append(all, m)
					case what == 1:
						alive[at].leave()
						alive = append(alive[:at], alive[at+1:]...)
					case what == 2:
						alive[at].die()
						alive = append(alive[:at], alive[at+1:]...)
					case what <= 4:
						alive[at].setCut(what == 3)
					case chance.IntN(20) == 0:
						r.lose()
					}
					time.Sleep(time.Duration(chance.IntN(9000)) * time.Millisecond)
				}
				for _, m := range alive {
					m.leave()
				}
				checkRate(t, all, rate, most)
			})
		})
	}
}

// checkRate looks at all windows from one question to another.
func checkRate(t *testing.T, members []*member, rate float64, most int) {
	t.Helper()
	var asked []time.Time
	for _, m := range members {
		asked = append(asked, m.asked...)
	}
	require.Greater(t, len(asked), 200)
	slices.SortFunc(asked, time.Time.Compare)
	for i := range asked {
		for j := i; j < len(asked) && asked[j].Sub(asked[i]) < time.Minute; j++ {
			window := asked[j].Sub(asked[i])
			if n := j - i + 1; float64(n) > window.Seconds()*rate+float64(most)+0.001 {
				require.Failf(t, "the rate is exceeded", "%d questions in %v", n, window)
			}
		}
	}
}

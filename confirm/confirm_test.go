package confirm

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/reconcile"
)

// always returns what Fotor says whatever it is asked.
func always(text string, err error) func(string) (string, error) {
	return func(string) (string, error) { return text, err }
}

func TestWhatFotorSaysIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tell(always("completed", nil))
		w.play(w.config(), func() {
			w.arrive("a")
			w.arrive("b")
			within(time.Second)
			assert.Equal(t, map[string]string{"a": "completed", "b": "completed"}, w.outcomes())
			assert.Zero(t, w.left())
		})
		assert.Equal(t, []reconcile.Result{reconcile.ResultFinal, reconcile.ResultFinal}, w.results)
		assert.Empty(t, w.failures)
	})
}

// The task's end may be known to Fotor's API a while after the callback.
func TestATaskInProgressIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tell(always("in progress", nil))
		w.play(w.config(), func() {
			w.arrive("a")
			within(9 * time.Minute)
			asked := len(w.questions())
			assert.Greater(t, asked, 6)
			assert.Less(t, asked, 20)
			assert.Empty(t, w.outcomes())
			w.tell(always("failed", nil))
			within(3 * time.Minute)
			assert.Equal(t, map[string]string{"a": "failed"}, w.outcomes())
			assert.Len(t, w.questions(), asked+1)
		})
	})
}

func TestWhatFotorDoesNotConfirmIsRejected(t *testing.T) {
	for why, says := range map[string]func(string) (string, error){
		"known true: Fotor's API says: in progress":      always("in progress", nil),
		"known true: Fotor's API says: invalid":          always("invalid", nil),
		"known false: not known yet: code 999":           always("", fmt.Errorf("%w: code 999", reconcile.ErrNotKnown)),
		"known false: cannot be asked for: it is \"..\"": always("", fmt.Errorf("%w: it is \"..\"", reconcile.ErrUnaskable)),
	} {
		t.Run(why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.says = says
				w.play(w.config(), func() {
					w.arrive("a")
					within(9*time.Minute + 50*time.Second)
					assert.Empty(t, w.outcomes())
					within(3 * time.Minute)
					assert.Equal(t, map[string]string{"a": "rejected"}, w.outcomes())
					assert.Equal(t, why, w.reason("a"))
					assert.Zero(t, w.left())
				})
			})
		})
	}
}

// After the gateway was off for long, Fotor is asked all the same.
func TestAnOldCallbackIsAskedForSeveralTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.arrive("a")
		within(24 * time.Hour)
		w.tell(always("in progress", nil))
		w.play(w.config(), func() {
			within(time.Hour)
			assert.Equal(t, map[string]string{"a": "rejected"}, w.outcomes())
			assert.Len(t, w.questions(), leastAsked)
		})
	})
}

// The clock was ahead by a day when it came.
func TestACallbackFromTheFutureIsRejectedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.arrive("a")
		w.queue[0].event.ReceivedAt = time.Now().Add(24 * time.Hour)
		w.tell(always("in progress", nil))
		w.play(w.config(), func() {
			within(time.Hour)
			assert.Equal(t, map[string]string{"a": "rejected"}, w.outcomes())
			assert.Len(t, w.questions(), mostAsked)
		})
	})
}

func TestWithoutQuarantineARejectedCallbackIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.off, w.says = true, always("in progress", nil)
		w.play(w.config(), func() {
			w.arrive("a")
			within(15 * time.Minute)
			assert.Equal(t, inbox.GiveUp, w.verdict(0))
			assert.Equal(t, 1, w.left())
		})
	})
}

func TestIfFotorCannotBeAskedACallbackIsDeliveredAfterAWhile(t *testing.T) {
	for name, err := range map[string]error{
		"no answer":   errFault,
		"key":         reconcile.ErrKeyRefused,
		"too often":   reconcile.ErrTooOften,
		"unusable":    reconcile.ErrUnusable,
		"another way": errors.New("whatever"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.tell(always("", err))
				w.play(w.config(), func() {
					w.arrive("a")
					within(10*time.Minute - time.Second)
					assert.Empty(t, w.outcomes())
					within(2 * time.Second)
					assert.Equal(t, map[string]string{"a": "unconfirmed"}, w.outcomes())
					assert.Zero(t, w.left())
				})
			})
		})
	}
}

func TestIfTheConfigSaysSoACallbackWaitsUntilFotorCanBeAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tell(always("", errFault))
		c := w.config()
		c.Hold = true
		w.play(c, func() {
			w.arrive("a")
			within(48 * time.Hour)
			assert.Empty(t, w.outcomes())
			w.tell(always("completed", nil))
			within(2 * time.Minute)
			assert.Equal(t, map[string]string{"a": "completed"}, w.outcomes())
		})
	})
}

// What is leased cannot be purged.
func TestWhileFotorCannotBeAskedCallbacksThatWaitAreNotLeased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.says = always("", errFault)
		c := w.config()
		c.Hold = true
		w.play(c, func() {
			for i := range 200 {
				w.arrive(fmt.Sprint(i))
			}
			within(time.Hour)
			assert.LessOrEqual(t, w.leases(), 1)
			w.tell(always("completed", nil))
			within(2 * time.Minute)
			assert.Zero(t, w.left())
		})
	})
}

// While the gateway was off, nobody could ask.
func TestThePatienceBeginsWhenTheGatewayDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.arrive("a")
		within(24 * time.Hour)
		w.tell(always("", errFault))
		w.play(w.config(), func() {
			within(9 * time.Minute)
			assert.Empty(t, w.outcomes())
			within(2 * time.Minute)
			assert.Equal(t, map[string]string{"a": "unconfirmed"}, w.outcomes())
		})
	})
}

// A config without confirm delivers what an earlier one has left.
func TestWithoutFotorCallbacksAreDeliveredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.config()
		c.Fotor, c.Hold = nil, true
		w.play(c, func() {
			for i := range 1000 {
				w.arrive(fmt.Sprint(i))
			}
			within(time.Second)
			assert.Zero(t, w.left())
			assert.Equal(t, "unconfirmed", w.outcomes()["999"])
		})
	})
}

// If more callbacks come than can be asked for, the questions are mostly for those that came
// last, and all others are delivered after the patience, not later.
func TestMoreCallbacksThanQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.says, w.pause = always("completed", nil), time.Second
		w.play(w.config(), func() {
			for i := range 5000 {
				w.arrive(fmt.Sprint(i))
			}
			within(10*time.Minute - 10*time.Second)
			confirmed := len(w.outcomes())
			assert.InDelta(t, 590, confirmed, 10, "one question a second")
			assert.Equal(t, "completed", w.outcomes()["4999"])
			for i := range 3 {
				w.arrive(fmt.Sprint("new ", i))
			}
			within(5 * time.Second)
			assert.Equal(t, "completed", w.outcomes()["new 0"])
			within(10 * time.Second)
			assert.Zero(t, w.left())
			assert.Len(t, w.outcomes(), 5003)
			assert.Equal(t, "unconfirmed", w.outcomes()["2500"])
		})
	})
}

// Many different callbacks of one task, as somebody may forge them, are one question.
func TestAnAnswerIsRememberedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.says, w.pause = always("completed", nil), time.Second
		w.play(w.config(), func() {
			w.arrive("a")
			within(2 * time.Second)
			for range 1000 {
				w.arrive("a")
			}
			within(time.Second)
			assert.Zero(t, w.left())
			assert.Equal(t, []string{"a"}, w.questions())
			within(rememberFor)
			w.arrive("a")
			within(2 * time.Second)
			assert.Equal(t, []string{"a", "a"}, w.questions())
		})
	})
}

func TestRememberedAnswersAreBounded(t *testing.T) {
	var a answers
	now := time.Now()
	for i := range 3 * mostAnswers {
		a.add(fmt.Sprint(i), []byte("x"), now)
		a.add(fmt.Sprint(i), []byte("y"), now)
	}
	a.add("long", make([]byte, longestAnswer+1), now)
	require.Len(t, a.byTask, mostAnswers)
	require.Len(t, a.order, mostAnswers)
	require.Nil(t, a.get("0", now))
	require.Nil(t, a.get("long", now))
	last := fmt.Sprint(3*mostAnswers - 1)
	require.Equal(t, "x", string(a.get(last, now)))
	require.Nil(t, a.get(last, now.Add(rememberFor)))
}

func TestWhatCannotBeStoredIsTriedAgain(t *testing.T) {
	for name, says := range map[string]func(string) (string, error){
		"completed": always("completed", nil), "rejected": always("in progress", nil), "unconfirmed": always("", errFault),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.says, w.unstored = says, 3
				w.play(w.config(), func() {
					w.arrive("a")
					within(30 * time.Minute)
					assert.Equal(t, map[string]string{"a": name}, w.outcomes())
					assert.Zero(t, w.left())
					assert.Len(t, w.faults(), 3)
				})
			})
		})
	}
}

// Leases are given back unspent: TestMoreCallbacks and the others check that none is left.
func TestTheEndGivesCallbacksBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tell(always("", errFault))
		w.play(w.config(), func() {
			for i := range 10 {
				w.arrive(fmt.Sprint(i))
			}
			within(5 * time.Second)
		})
		for _, e := range w.queue {
			assert.Equal(t, inbox.Release, e.verdict)
			assert.Zero(t, e.attempts)
		}
	})
}

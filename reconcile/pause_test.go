package reconcile

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// say changes what Fotor answers.
func (f *rig) say(data string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = func(string) ([]byte, error) { return []byte(data), err }
}

// Questions that were under way when a pause began say nothing about the time since.
func TestQuestionsOfBeforeAPauseDoNotLengthenIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		f.answer = func(string) ([]byte, error) {
			time.Sleep(20 * time.Second)
			return nil, errors.New("timeout")
		}
		for i := range 20 {
			f.tasks.add(taskAt(fmt.Sprint(i), time.Now(), 0))
		}
		f.start(t)
		f.after(22*time.Second + time.Second/2) // three have failed
		require.False(t, f.State().OK())
		before := len(f.asked())
		f.say("completed", nil)
		f.after(2 * time.Second)
		assert.True(t, f.State().OK(), "the first pause is short, whatever else fails")
		f.after(40 * time.Second)
		assert.Len(t, f.tasks.tasks, before, "the others were asked for at once")
		assert.Len(t, f.told().states, 2)
	})
}

func TestThatFotorCanBeAskedAgainIsNoticedThoughNothingIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		f.say("", errors.New("connection refused"))
		for _, id := range []string{"a", "b", "c"} {
			f.tasks.add(taskAt(id, time.Now(), 0))
		}
		f.start(t)
		f.after(5 * time.Second)
		require.False(t, f.State().OK())
		_, err := f.tasks.Untrack(t.Context(), "a", "b", "c") // their callbacks have come
		require.NoError(t, err)
		f.after(time.Hour)
		assert.False(t, f.State().OK())
		assert.Greater(t, len(f.asked()), 50, "about one a minute")
		assert.Less(t, len(f.asked()), 75)

		f.say("completed", nil)
		f.after(pauseMost + 5*time.Second)
		assert.True(t, f.State().OK())
		n := len(f.asked())
		f.after(time.Hour)
		assert.Len(t, f.asked(), n, "there is no need")
		assert.Len(t, f.told().states, 2)
	})
}

func TestIfAllIsTooOftenThatIsATrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		f.say("", fmt.Errorf("%w: HTTP 429", ErrTooOften))
		f.tasks.add(taskAt("a", time.Now(), 0), taskAt("b", time.Now(), 0))
		f.start(t)
		f.after(time.Minute)
		assert.True(t, f.State().OK(), "the rate adapts")
		f.after(10 * time.Minute)
		require.True(t, f.State().Unreachable)
		assert.Equal(t, "asked too often: HTTP 429", f.State().Reason)
		assert.Less(t, f.State().Since.Sub(f.began), 5*time.Second)
		f.say("completed", nil)
		f.after(5 * time.Minute)
		assert.True(t, f.State().OK())
		assert.Len(t, f.told().states, 2)
	})
}

func TestNowAndThenTooOftenIsNoTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		asked := 0
		f.answer = func(string) ([]byte, error) {
			if asked++; asked%20 > 0 {
				return nil, ErrTooOften
			}
			return []byte("completed"), nil
		}
		for i := range 1000 {
			f.tasks.add(taskAt(fmt.Sprint(i), time.Now(), 0))
		}
		f.start(t)
		f.after(10 * time.Minute)
		assert.Empty(t, f.told().states)
	})
}

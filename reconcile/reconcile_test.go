package reconcile

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// taskAt is a task that became known at a time, and is due after that.
func taskAt(id string, since time.Time, due time.Duration) inbox.Task {
	return inbox.Task{ID: id, Since: since.UTC(), Due: since.Add(due).UTC()}
}

func TestATaskIsAskedForWhenItIsDueAndUntilItHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		f.answer = func(string) ([]byte, error) {
			if len(f.asked()) < 4 {
				return []byte("running"), nil
			}
			return []byte("completed"), nil
		}
		f.meaning = func(data string) (Meaning, error) {
			return map[string]Meaning{"running": InProgress, "completed": Final}[data], nil
		}
		f.tasks.add(taskAt("a", time.Now(), DefaultAfter))
		f.start(t)
		f.after(DefaultAfter - time.Second)
		assert.Empty(t, f.asked(), "before it is due")

		f.after(time.Hour)
		asked := f.asked()
		require.Len(t, asked, 4)
		for i, pause := range []time.Duration{2 * time.Minute, 4 * time.Minute, 8 * time.Minute} {
			assert.InDelta(t, pause, asked[i+1].at-asked[i].at, float64(pause/4+3*time.Second), "pause %d", i+1)
		}
		_, found := f.tasks.get("a")
		assert.False(t, found, "it has ended")
		assert.Equal(t, []Result{ResultInProgress, ResultInProgress, ResultInProgress, ResultFinal}, f.told().results)
		assert.Empty(t, f.told().failures)
		assert.Empty(t, f.told().states)
	})
}

func TestTheTaskRemembersItsQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		f.answer = func(string) ([]byte, error) { return nil, fmt.Errorf("%w: code 999", ErrNotKnown) }
		f.tasks.add(taskAt("a", time.Now(), 0))
		f.start(t)
		f.after(time.Minute)
		task, found := f.tasks.get("a")
		require.True(t, found)
		assert.Equal(t, 1, task.Asked)
		assert.Equal(t, "not known yet: code 999", task.Answer)
		assert.WithinDuration(t, f.began, task.AskedAt, 2*time.Second)
		assert.WithinRange(t, task.Due, f.began.Add(DefaultEvery*3/4), f.began.Add(DefaultEvery*5/4+2*time.Second))
	})
}

func TestNoQuestionWithoutATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		for i := range 100 {
			f.tasks.add(taskAt(fmt.Sprint(i), time.Now(), 0))
		}
		f.start(t)
		f.after(50 * time.Second)
		assert.InDelta(t, 50, len(f.asked()), 1)
		f.after(time.Minute)
		asked := f.asked()
		assert.Len(t, asked, 100, "each is asked for once")
		for i := range asked[1:] {
			assert.GreaterOrEqual(t, asked[i+1].at-asked[i].at, time.Second-time.Millisecond)
		}
	})
}

func TestNewTasksComeBeforeABacklogWhichGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		for i := range 1000 {
			f.tasks.add(taskAt(fmt.Sprintf("old %03d", i), time.Now().Add(-5*time.Hour), time.Minute))
		}
		f.start(t)
		f.after(100 * time.Second)
		for i := range 3 {
			f.tasks.add(taskAt(fmt.Sprintf("new %d", i), time.Now(), 0))
		}
		f.after(6 * time.Second)
		var fresh int
		for _, q := range f.asked() {
			if q.task[:3] == "new" {
				fresh++
			}
		}
		assert.Equal(t, 3, fresh)
		f.after(1000 * time.Second)
		assert.Len(t, f.asked(), 1003, "none is forgotten")
	})
}

// newer tasks that come for ever must not keep older ones from being asked for.
func TestOldTasksAreAskedForBesideAStreamOfNewOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		for i := range 20 {
			f.tasks.add(taskAt(fmt.Sprintf("old %02d", i), time.Now().Add(-time.Hour), time.Minute))
		}
		f.start(t)
		for i := range 100 {
			for j := range 2 {
				f.tasks.add(taskAt(fmt.Sprintf("new %03d-%d", i, j), time.Now(), 0))
			}
			f.after(time.Second)
		}
		var old int
		for _, q := range f.asked() {
			if q.task[:3] == "old" {
				old++
			}
		}
		assert.Equal(t, 20, old)
	})
}

func TestATaskIsLostOnlyAfterFotorWasAsked(t *testing.T) {
	unreachable := errors.New("connection refused")
	for _, c := range []struct {
		name     string
		age      time.Duration
		asked    int
		err      error
		lost     bool
		lostWhen time.Duration // from the start, at most
	}{
		{"young", 0, 0, ErrNotKnown, false, 0},
		{"old, and never asked for", 100 * time.Hour, 0, ErrNotKnown, true, 10 * time.Minute},
		{"too old after many questions", 24 * time.Hour, 20, ErrNotKnown, true, time.Minute},
		{"old, but Fotor cannot be asked", 24 * time.Hour, 20, unreachable, false, 0},
		{"old, but its answers are unusable", 24 * time.Hour, 20, ErrUnusable, false, 0},
		{"twice as old, and its answers are unusable", 48 * time.Hour, 20, ErrUnusable, true, time.Minute},
		{"twice as old, and Fotor cannot be asked", 48 * time.Hour, 20, unreachable, true, time.Minute},
		{"old, but asked too often", 100 * time.Hour, 20, ErrTooOften, false, 0},
		{"old, but the key is refused", 100 * time.Hour, 20, ErrKeyRefused, false, 0},
		{"from the future", -100 * time.Hour, 1, ErrNotKnown, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newRig(t)
				f.answer = func(string) ([]byte, error) { return nil, c.err }
				task := taskAt("a", time.Now().Add(-c.age), 0)
				task.Due, task.Asked = time.Now(), c.asked
				f.tasks.add(task)
				f.start(t)
				if !c.lost {
					f.after(time.Hour)
					assert.Empty(t, f.told().lost)
					return
				}
				f.after(c.lostWhen)
				assert.Equal(t, []string{"a"}, f.told().lost)
			})
		})
	}
}

func TestATaskFromTheFutureIsLostAtLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		f.answer = func(string) ([]byte, error) { return nil, ErrNotKnown }
		task := taskAt("a", time.Now().Add(10*365*24*time.Hour), 0)
		task.Due = time.Now()
		f.tasks.add(task)
		f.start(t)
		f.after(20 * time.Hour)
		assert.Empty(t, f.told().lost)
		f.after(8 * time.Hour)
		assert.Equal(t, []string{"a"}, f.told().lost)
	})
}

func TestALossThatCannotBeStoredIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		f.answer = func(string) ([]byte, error) {
			f.tasks.fail(errors.New("disk full")) // before the event is stored
			return nil, ErrNotKnown
		}
		task := taskAt("a", time.Now().Add(-25*time.Hour), 0)
		task.Asked = 10
		f.tasks.add(task)
		f.start(t)
		f.after(2 * time.Second)
		assert.Empty(t, f.told().lost)
		assert.NotEmpty(t, f.told().failures)
		f.mu.Lock()
		f.answer = func(string) ([]byte, error) { return nil, ErrNotKnown }
		f.mu.Unlock()
		f.tasks.fail(nil)
		f.after(2 * leaseFor)
		assert.Equal(t, []string{"a"}, f.told().lost)
	})
}

func TestARefusedKeyEndsTheQuestionsAndLosesNoTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		f.answer = func(string) ([]byte, error) { return nil, ErrKeyRefused }
		for i := range 10 {
			f.tasks.add(taskAt(fmt.Sprint(i), time.Now(), 0))
		}
		f.start(t)
		f.after(24 * time.Hour)
		assert.Len(t, f.asked(), 1)
		require.Len(t, f.told().states, 1, "told once")
		assert.True(t, f.told().states[0].KeyRefused)
		assert.True(t, f.State().KeyRefused)
		assert.Len(t, f.tasks.tasks, 10)
		task, _ := f.tasks.get(f.asked()[0].task)
		assert.Zero(t, task.Asked, "it says nothing of the task")
	})
}

func TestFotorInTroubleIsProbedAndNotHammered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		f.answer = func(string) ([]byte, error) { return nil, errors.New("connection refused") }
		for i := range 1000 {
			f.tasks.add(taskAt(fmt.Sprint(i), time.Now(), 0))
		}
		f.start(t)
		f.after(time.Hour)
		n := len(f.asked())
		assert.Greater(t, n, 50, "about one a minute")
		assert.Less(t, n, 75)
		assert.True(t, f.State().Unreachable)
		assert.Equal(t, "connection refused", f.State().Reason)
		require.Len(t, f.told().states, 1)
		assert.Equal(t, f.told().states[0].Since, f.State().Since)

		f.mu.Lock()
		f.answer = func(string) ([]byte, error) { return []byte("completed"), nil }
		f.mu.Unlock()
		f.after(time.Hour)
		assert.True(t, f.State().OK())
		assert.Empty(t, f.tasks.tasks)
		assert.Len(t, f.told().states, 2)
	})
}

func TestOneTaskWhoseAnswersAreBrokenDoesNotDelayOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		f.answer = func(task string) ([]byte, error) {
			if task == "broken" {
				return nil, fmt.Errorf("%w: longer than 1 MiB", ErrUnusable)
			}
			return []byte("completed"), nil
		}
		f.tasks.add(taskAt("broken", time.Now(), 0))
		f.start(t)
		for i := range 200 {
			f.tasks.add(taskAt(fmt.Sprint(i), time.Now(), 0))
			f.after(2 * time.Second)
			require.Len(t, f.tasks.tasks, 1, "each is asked for at once")
		}
		assert.Empty(t, f.told().states)
	})
}

func TestSlowAnswersAreWaitedForSideBySideButNotBeyondABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		f.answer = func(string) ([]byte, error) {
			time.Sleep(20 * time.Second)
			return []byte("completed"), nil
		}
		for i := range 100 {
			f.tasks.add(taskAt(fmt.Sprint(i), time.Now(), 0))
		}
		f.start(t)
		f.after(5 * time.Minute)
		assert.Equal(t, atOnce, f.mostAsked)
		f.stop()
	})
}

func TestAtAStopTasksAreDueAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		task := taskAt("a", time.Now(), 0)
		f.tasks.add(task)
		f.start(t)
		f.after(50 * time.Millisecond) // half of a question
		require.Len(t, f.asked(), 1)
		f.stop()
		stored, found := f.tasks.get("a")
		require.True(t, found)
		assert.Equal(t, task, stored)
		assert.Empty(t, f.tasks.leased)
		assert.Empty(t, f.told().results)
		assert.Empty(t, f.told().failures)
	})
}

func TestAnAnswerThatComesAtAStopIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		stop := make(chan struct{})
		f.answer = func(string) ([]byte, error) {
			close(stop)
			time.Sleep(time.Second) // the stop comes meanwhile
			return []byte("completed"), nil
		}
		f.tasks.add(taskAt("a", time.Now(), 0))
		f.start(t)
		<-stop
		f.stop()
		assert.Equal(t, []Result{ResultFinal}, f.told().results)
		_, found := f.tasks.get("a")
		assert.False(t, found)
	})
}

func TestAnAnswerThatCannotBeStoredIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		full := errors.New("full")
		f.meaning = func(string) (Meaning, error) { return 0, full }
		f.tasks.add(taskAt("a", time.Now(), 0))
		f.start(t)
		f.after(time.Minute)
		require.Equal(t, []Result{ResultNotStored}, f.told().results)
		task, _ := f.tasks.get("a")
		assert.Zero(t, task.Asked)
		f.mu.Lock()
		f.meaning = func(string) (Meaning, error) { return Final, nil }
		f.mu.Unlock()
		f.after(5 * time.Minute)
		_, found := f.tasks.get("a")
		assert.False(t, found)
	})
}

func TestAnInboxThatFailsIsReportedAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRig(t)
		f.tasks.fail(inbox.ErrBroken)
		f.tasks.add(taskAt("a", time.Now(), 0))
		f.start(t)
		f.after(10 * time.Second)
		assert.Empty(t, f.asked())
		assert.NotEmpty(t, f.told().failures)
		assert.LessOrEqual(t, len(f.told().failures), 11, "not in a loop")
		f.tasks.fail(nil)
		f.after(2 * time.Second)
		assert.Len(t, f.asked(), 1)
	})
}

func TestRunEndsWithItsContextWhateverItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, err := range []error{nil, ErrKeyRefused, errors.New("away")} {
			f := newRig(t)
			f.answer = func(string) ([]byte, error) { return nil, err }
			f.meaning = func(string) (Meaning, error) { return InProgress, nil }
			f.tasks.add(taskAt("a", time.Now(), 0), taskAt("b", time.Now(), 0), taskAt("c", time.Now(), 0), taskAt("d", time.Now(), 0))
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			f.Run(ctx)
			cancel()
			assert.Equal(t, 30*time.Second, time.Since(f.began))
		}
	})
}

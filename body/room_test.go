package body

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func body(room *Room, limit int64) (in *incoming, cut *int) {
	cut = new(int)
	return &incoming{room: room, limit: limit, since: time.Now(), cutOff: func() { *cut++ }}, cut
}

// Bodies that each hold a part and need more must not wait for each other.
func TestBodiesThatNeedMoreRoomAreNotDeadlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, part = 100, 10
		room := new(Room)
		var all []*incoming
		for range limit / part {
			in, _ := body(room, limit)
			require.NoError(t, in.enter(t.Context(), part))
			all = append(all, in)
		}
		began := time.Now()
		for _, in := range all {
			require.ErrorIs(t, in.grow(part), ErrNoRoom)
			in.leave()
			in, _ := body(room, limit)
			require.NoError(t, in.enter(t.Context(), part), "what was refused makes room")
			defer in.leave()
		}
		assert.Zero(t, time.Since(began), "nobody has waited")
	})
}

// Bodies that trickle cannot keep others out, however many there are.
func TestSlowBodiesMakeRoomForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 1000
		room := new(Room)
		slow := make([]*incoming, 10)
		cuts := make([]*int, len(slow))
		for i := range slow {
			slow[i], cuts[i] = body(room, limit)
			require.NoError(t, slow[i].enter(t.Context(), limit/int64(len(slow))))
		}
		time.Sleep(slowBody)
		began := time.Now()
		in, _ := body(room, limit)
		require.NoError(t, in.enter(t.Context(), 10))
		require.NoError(t, in.grow(140))
		assert.Zero(t, time.Since(began))
		for i, cut := range cuts {
			assert.Equal(t, i < 2, *cut == 1, "the oldest two are cut off, not number %d", i)
		}
		require.ErrorIs(t, slow[0].grow(1), ErrCrowded)
		assert.True(t, slow[0].arrived())
		require.ErrorIs(t, slow[2].grow(100), ErrNoRoom, "a slow one takes no room from younger ones")
		for _, in := range append(slow, in) {
			in.leave()
		}
		reading, used := room.Load()
		assert.Zero(t, reading)
		assert.Zero(t, used)
	})
}

// A body that has arrived whole waits for the disk: it is not evicted.
func TestWholeBodiesKeepTheirRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := new(Room)
		whole, cut := body(room, 100)
		require.NoError(t, whole.enter(t.Context(), 100))
		assert.False(t, whole.arrived())
		time.Sleep(time.Minute)

		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		late, _ := body(room, 100)
		require.ErrorIs(t, late.enter(ctx, 1), ErrNoRoom)
		assert.Zero(t, *cut)

		in, _ := body(room, 100)
		entered := make(chan error)
		go func() { entered <- in.enter(t.Context(), 1) }()
		synctest.Wait()
		whole.leave()
		require.NoError(t, <-entered, "who waits is let in when there is room")
		in.leave()
	})
}

// A body waits no longer than it takes until those before it are slow.
func TestWaitingEndsWhenOthersAreSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := new(Room)
		slow, cut := body(room, 100)
		require.NoError(t, slow.enter(t.Context(), 100))
		in, _ := body(room, 100)
		began := time.Now()
		require.NoError(t, in.enter(t.Context(), 50))
		assert.LessOrEqual(t, time.Since(began), 2*slowBody)
		assert.Equal(t, 1, *cut)
		slow.leave()
		in.leave()
	})
}

// Whatever happens, the limit holds and nothing is lost from the count.
func TestRoomIsNeverOverdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // no secret
		const limit = 500
		room := new(Room)
		inside := map[*incoming]bool{}
		check := func() {
			var held int64
			for in := range inside {
				held += in.held
			}
			_, used := room.Load()
			require.Equal(t, held, used)
			require.LessOrEqual(t, used, int64(limit))
			require.GreaterOrEqual(t, used, int64(0))
		}
		for range 20_000 {
			time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
			if random.IntN(3) == 0 {
				in, _ := body(room, limit)
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				if in.enter(ctx, 1+random.Int64N(60)) == nil {
					inside[in] = true
				}
				cancel()
			}
			for in := range inside {
				switch random.IntN(4) {
				case 0:
					_ = in.grow(1 + random.Int64N(100))
				case 1:
					in.arrived()
				case 2:
					in.leave()
					delete(inside, in)
				}
				break
			}
			check()
		}
		for in := range inside {
			in.leave()
		}
		_, used := room.Load()
		require.Zero(t, used)
	})
}

package gateway

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// However callbacks follow each other, each waits for at least StoreTimeout, and not much
// longer.
func TestCallbacksWaitForTheStoreTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w waits
		var waiting sync.WaitGroup
		for _, pause := range []time.Duration{0, 1, waitStep / 3, waitStep / 2, waitStep - 1, waitStep, waitStep + 1, time.Second, time.Hour} {
			time.Sleep(pause)
			began, ctx := time.Now(), w.context()
			waiting.Go(func() {
				<-ctx.Done()
				waited := time.Since(began)
				assert.GreaterOrEqual(t, waited, StoreTimeout, "%s", pause)
				assert.LessOrEqual(t, waited, StoreTimeout+waitStep, "%s", pause)
				assert.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
			})
		}
		waiting.Wait()
	})
}

func TestCallbacksOfOneMomentShareAContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w waits
		first := w.context()
		time.Sleep(waitStep - 1)
		require.Same(t, first, w.context())
		time.Sleep(time.Nanosecond)
		require.NotSame(t, first, w.context())
		require.NoError(t, first.Err(), "it is not ended by the next one")
	})
}

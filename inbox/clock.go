package inbox

import "time"

const (
	// clockJump is how far the wall clock may run ahead of the elapsed time
	// before it counts as put forward.
	clockJump = time.Minute

	// clockTrust is how long a clock that was put forward is not trusted,
	// because what it makes too old would be removed for good. If the clock was
	// wrong, whoever set it (a time server, say) has corrected it by then.
	clockTrust = 10 * time.Minute
)

// Clock reports whether the wall clock can be trusted when it makes events look
// old. The zero value is ready to use, by one goroutine at a time.
type Clock struct {
	start   time.Time
	ahead   time.Duration // how far the wall clock is ahead, since start
	elapsed time.Duration // when the clock was put forward, since start
	wary    bool
}

// Trusted reports whether the clock was not put forward by more than a minute
// within the last ten. now must come from time.Now.
func (c *Clock) Trusted(now time.Time) bool {
	if c.start.IsZero() {
		c.start = now
	}
	return c.trusted(now.Sub(c.start), now.Round(0).Sub(c.start.Round(0)))
}

// trusted is Trusted in terms of the elapsed time and the time by the wall
// clock.
func (c *Clock) trusted(elapsed, wall time.Duration) bool {
	ahead := wall - elapsed
	if ahead-c.ahead > clockJump {
		c.wary, c.elapsed = true, elapsed
	}
	c.ahead = ahead
	c.wary = c.wary && elapsed-c.elapsed < clockTrust
	return !c.wary
}

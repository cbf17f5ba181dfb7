package inbox

import "time"

const (
	// clockJump is how far the wall clock may get ahead of the time that has
	// passed before it counts as put forward.
	clockJump = time.Minute

	// clockTrust is how long a clock that was put forward is not trusted: what it
	// makes old would be removed for good. Whoever has set it wrong, such as a
	// time server that is, has set it right by then, or it is right.
	clockTrust = 10 * time.Minute
)

// Clock tells whether the wall clock may be trusted with what it makes old. The
// zero value is ready. It is for one goroutine at a time.
type Clock struct {
	start   time.Time
	ahead   time.Duration // of the wall clock, since start
	elapsed time.Duration // when it was put forward
	wary    bool
}

// Trusted reports whether the clock was not put forward by more than a minute in
// the last ten. now must come from time.Now.
func (c *Clock) Trusted(now time.Time) bool {
	if c.start.IsZero() {
		c.start = now
	}
	return c.trusted(now.Sub(c.start), now.Round(0).Sub(c.start.Round(0)))
}

// trusted is Trusted by the time that has passed and by that of the wall clock.
func (c *Clock) trusted(elapsed, wall time.Duration) bool {
	ahead := wall - elapsed
	if ahead-c.ahead > clockJump {
		c.wary, c.elapsed = true, elapsed
	}
	c.ahead = ahead
	c.wary = c.wary && elapsed-c.elapsed < clockTrust
	return !c.wary
}

package dispatch

import (
	"time"

	"golang.org/x/time/rate"
)

// pace spaces the attempts of a destination that must not get more than some a second.
// The zero value sets no limit.
type pace struct {
	limiter *rate.Limiter // nil if there is no limit
	timer   *time.Timer   // wakes a worker when the next attempt may begin; nil if none waits for that
}

// burst is for how long attempts may be missed and made up for at once, because timers
// are not exact.
const burst = 10 * time.Millisecond

// use replaces the limit, in attempts a second; 0 is none. The workers have to be woken.
func (p *pace) use(perSecond float64) {
	if p.timer != nil && p.timer.Stop() {
		p.timer = nil
	}
	switch limit := rate.Limit(perSecond); {
	case perSecond <= 0:
		p.limiter = nil
	case p.limiter == nil || p.limiter.Limit() != limit:
		p.limiter = rate.NewLimiter(limit, max(1, int(perSecond*burst.Seconds())))
	}
}

func (p *pace) limited() bool { return p.limiter != nil }

// left returns how long it is until an attempt may begin.
func (p *pace) left(now time.Time) time.Duration {
	if p.limiter == nil {
		return 0
	}
	r := p.limiter.ReserveN(now, 1)
	defer r.CancelAt(now)
	return r.DelayFrom(now)
}

// take counts an attempt that begins.
func (p *pace) take(now time.Time) {
	if p.limiter != nil {
		p.limiter.ReserveN(now, 1)
	}
}

// soon returns how many attempts may begin within the time for which leases wait for a
// worker, at least one.
func (p *pace) soon() int {
	return max(1, int(float64(p.limiter.Limit())*tempoStep.Seconds()))
}

// inPace reports whether the rate allows an attempt now. If not, a worker is woken as
// soon as it does.
func (d *Dispatcher) inPace() bool {
	left := d.pace.left(time.Now())
	if left > 0 && d.pace.timer == nil {
		d.pace.timer = time.AfterFunc(left, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.pace.timer = nil
			d.work.Signal()
		})
	}
	return left <= 0
}

package dispatch

import "time"

// Load says how much a destination gets, and how it takes it.
type Load struct {
	// Limit is how many attempts may be made at once, 1 to Concurrency. Below
	// Concurrency the destination is under pressure.
	Limit, Concurrency int

	// Attempts counts the attempts that ended in the last minute, and Failed those
	// of them whose event is to be tried again.
	Attempts, Failed int
}

// Load returns how much the destination gets at the moment.
func (d *Dispatcher) Load() Load {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := Load{Limit: d.hold.load.limit, Concurrency: d.settings.Concurrency}
	l.Attempts, l.Failed = d.lately.sum(time.Now())
	return l
}

// lately counts attempts by the second, for a minute. The zero value is ready.
type lately struct {
	seconds [60]struct {
		number           int64 // since 1970
		attempts, failed int
	}
}

func (l *lately) add(failed bool, now time.Time) {
	number := now.Unix()
	s := &l.seconds[number%int64(len(l.seconds))]
	if s.number != number {
		s.number, s.attempts, s.failed = number, 0, 0
	}
	s.attempts++
	if failed {
		s.failed++
	}
}

// before returns how many attempts ended in the second before this one.
func (l *lately) before(now time.Time) int {
	number := now.Unix() - 1
	if s := &l.seconds[number%int64(len(l.seconds))]; s.number == number {
		return s.attempts
	}
	return 0
}

func (l *lately) sum(now time.Time) (attempts, failed int) {
	for i := range l.seconds {
		if s := &l.seconds[i]; s.number > now.Unix()-int64(len(l.seconds)) && s.number <= now.Unix() {
			attempts += s.attempts
			failed += s.failed
		}
	}
	return attempts, failed
}

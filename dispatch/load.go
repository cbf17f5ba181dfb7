package dispatch

import "time"

// Load says how much a destination gets, and how it takes it.
type Load struct {
	// Limit is how many attempts may be made at once, 1 to Concurrency. Below
	// Concurrency the destination is under pressure.
	Limit, Concurrency int

	// Attempts counts the attempts that ended in the last minute, Delivered those of
	// them whose event was taken, and Failed those whose event is to be tried again.
	Attempts, Delivered, Failed int

	// LastDelivery is when an event was taken last; zero if none was.
	LastDelivery time.Time

	// Unsettled is zero, unless outcomes cannot be stored.
	Unsettled Unsettled
}

// Load returns how much the destination gets at the moment.
func (d *Dispatcher) Load() Load {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := Load{Limit: d.hold.load.limit, Concurrency: d.settings.Concurrency}
	sum := d.lately.sum(time.Now())
	l.Attempts, l.Delivered, l.Failed = sum.attempts, sum.delivered, sum.failed
	l.LastDelivery = d.lately.delivery
	if !d.unsettled.Since.IsZero() {
		l.Unsettled = d.unsettled
		l.Unsettled.Outcomes = len(d.outcomes) + d.settling
	}
	return l
}

// lately counts attempts by the second, for a minute. The zero value is ready.
type lately struct {
	seconds [60]struct {
		number int64 // since 1970
		tally
	}
	delivery time.Time // the last
}

// tally is how many attempts there were.
type tally struct{ attempts, delivered, failed int }

// add counts an attempt that ended with a kind of result.
func (l *lately) add(k kind, now time.Time) {
	number := now.Unix()
	s := &l.seconds[number%int64(len(l.seconds))]
	if s.number != number {
		s.number, s.tally = number, tally{}
	}
	s.attempts++
	switch k {
	case taken:
		s.delivered++
		l.delivery = now
	case gone:
	default:
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

func (l *lately) sum(now time.Time) (sum tally) {
	for i := range l.seconds {
		if s := &l.seconds[i]; s.number > now.Unix()-int64(len(l.seconds)) && s.number <= now.Unix() {
			sum.attempts += s.attempts
			sum.delivered += s.delivered
			sum.failed += s.failed
		}
	}
	return sum
}

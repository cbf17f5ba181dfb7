package dispatch

import "time"

// noticeEvery is the least time between the beginnings of two holds of a
// destination in trouble that an Observer sees.
const noticeEvery = time.Minute

// damper keeps a destination that is in trouble again and again from filling the
// log: a hold that begins too soon after another is kept back, and shown only if it
// lasts. The zero value is ready.
type damper struct {
	last     time.Time // when a hold was shown last
	keptBack bool      // the present hold is not shown
}

// begin reports whether a hold that begins is shown.
func (d *damper) begin(now time.Time) bool {
	d.keptBack = !d.last.IsZero() && now.Sub(d.last) < noticeEvery
	if !d.keptBack {
		d.last = now
	}
	return !d.keptBack
}

// goesOn reports what is shown of a hold that lasts: that it began, if that was
// kept back for long enough, or that it is longer, or nothing.
func (d *damper) goesOn(now time.Time) (began, longer bool) {
	if !d.keptBack {
		return false, true
	}
	return d.begin(now), false
}

// end reports whether it is shown that the hold has ended.
func (d *damper) end() bool {
	shown := !d.keptBack
	d.keptBack = false
	return shown
}

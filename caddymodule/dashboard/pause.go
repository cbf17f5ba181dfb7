package dashboard

import "time"

const (
	// pauseHeader tells the script of an open page for how many milliseconds to rest
	// after this look.
	pauseHeader = "Dashboard-Pause"

	// leastPause and mostPause bound the time between two looks of an open page.
	leastPause = 2 * time.Second
	mostPause  = 10 * time.Second

	// pauseTimes is how many times as long as a look it is. So a look of up to 50 ms takes
	// an open page at most half a percent of a core, whatever its list has to look at.
	pauseTimes = 200
)

// pause returns how long a page rests that took so long to make.
func pause(took time.Duration) time.Duration {
	return min(max(leastPause, took*pauseTimes), mostPause)
}

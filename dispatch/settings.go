// Package dispatch delivers the events of an inbox: it leases them, makes delivery
// attempts with a bounded pool of workers, and settles the outcomes. It schedules
// retries, holds a destination that is in trouble, and stops for as long as an
// operator holds deliveries by hand.
//
// It uses nothing of HTTP but status numbers; the Attempt makes the request.
//
// Read the files in this order:
//   - settings.go: what a user of the package provides
//   - dispatcher.go: the life of a Dispatcher, from Start to Stop
//   - lease.go, work.go, settle.go: its goroutines, in the order of an event
//   - fifo.go, share.go: the queue between leasing and the workers; pace.go: how fast
//     it may be emptied
//   - schedule.go: what becomes of an event after an attempt
//   - hold.go: whether the destination may be tried; peer.go: the reports of other
//     gateways; pause.go: a hold by hand; age.go: time that does not count
//   - notice.go: how holds are reported
package dispatch

import (
	"context"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Attempt makes one delivery attempt. Its ctx ends after Settings.Timeout, with
// context.DeadlineExceeded, or when Stop runs out of time, with
// context.Canceled; it must return soon after that. A panic in it counts as an
// unreachable destination.
type Attempt func(ctx context.Context, l *inbox.Lease) Result

// Result is the result of one attempt.
type Result struct {
	// Status is the HTTP status of the upstream's final answer; 0 if there was none.
	Status int

	// RetryAfter is how long the answer asks to wait; 0 if it does not ask.
	RetryAfter time.Duration

	// Unreachable is true if there was no usable answer: dial, TLS, timeout,
	// broken body, a panic on the way, or the gateway's own 502, 503 or 504. It
	// takes precedence over Status: a 200 whose body broke off is no delivery.
	Unreachable bool

	// Cancelled is true if the attempt ended because ctx was cancelled. It then
	// does not count as an attempt. Without a cancellation by the dispatcher it is
	// ignored and the destination taken as unreachable.
	Cancelled bool

	// Reason is why the attempt failed; ignored for a delivery.
	Reason string
}

// Observer sees what happens. Its methods are called by the dispatcher's
// goroutines and by callers of Pause, Resume and PeerTrouble, also concurrently,
// and must return quickly. They may call Holds and UnderWay, but not Use, Pause,
// Resume, PeerTrouble or Stop.
type Observer interface {
	// Attempted is called after each attempt, when its verdict is decided and
	// before it is settled. due is when the event is due again: for a Retry or
	// a Release; zero means at once.
	Attempted(l *inbox.Lease, r Result, v inbox.Verdict, due time.Time, took time.Duration)

	// Held is called once when a hold of either kind begins, and again when Pause
	// replaces one. h.Until is the end of its first pause.
	Held(h Holding)

	// Prolonged is called when one of the dispatcher's own attempts finds a held
	// destination still in trouble. h.Until is the end of the new pause. It is not
	// called for pauses that a peer reports.
	Prolonged(h Holding)

	// Resumed is called once when a hold of either kind ends. after is how long it
	// lasted; for one by hand that replaced others, how long all of them lasted.
	Resumed(h Holding, after time.Duration)

	// Trouble is called when the inbox cannot be read or settled; at most once
	// in ten seconds for each of the two.
	Trouble(err error)
}

// Settings are what a reload of the config may change.
type Settings struct {
	// Attempt makes the attempts. Required.
	Attempt Attempt

	// Concurrency is the largest number of attempts at once. Default: 32.
	Concurrency int

	// Rate is the largest number of attempts that begin in a second, also of retries and
	// probes. Default: no limit.
	Rate float64

	// Timeout bounds one attempt. Default: 30s.
	Timeout time.Duration

	// First is the longest wait after an event's first attempt; it doubles
	// with each further one. Default: 5s.
	First time.Duration

	// Max is the longest wait between two attempts, also where the upstream
	// asks for more. Default: 1h. No less than First. While the destination is in
	// trouble, it may be up to two seconds whatever Max is.
	Max time.Duration

	// GiveUp is the age, from its last replay if there was one, at which an event
	// whose attempts fail is dead, if it has had five of them since. Time in which
	// deliveries were held does not count. Default: 72h.
	GiveUp time.Duration

	// Observer sees what happens. Default: none.
	Observer Observer
}

// withDefaults returns the settings with defaults in place of zero values.
func (s Settings) withDefaults() *Settings {
	if s.Concurrency <= 0 {
		s.Concurrency = 32
	}
	if s.Timeout <= 0 {
		s.Timeout = 30 * time.Second
	}
	if s.First <= 0 {
		s.First = 5 * time.Second
	}
	if s.Max <= 0 {
		s.Max = time.Hour
	}
	s.Max = max(s.Max, s.First)
	if s.GiveUp <= 0 {
		s.GiveUp = 72 * time.Hour
	}
	if s.Observer == nil {
		s.Observer = noObserver{}
	}
	return &s
}

// backlog is the number of unsettled outcomes at which leasing waits. While a batch of them is
// stored, the next one gathers, and the workers should not run dry: with two for each worker
// they did, whenever a commit took longer than two attempts.
func (s *Settings) backlog() int { return max(16, 4*s.Concurrency) }

// noObserver is the default Observer. It does nothing.
type noObserver struct{}

func (noObserver) Attempted(*inbox.Lease, Result, inbox.Verdict, time.Time, time.Duration) {}
func (noObserver) Held(Holding)                                                            {}
func (noObserver) Prolonged(Holding)                                                       {}
func (noObserver) Resumed(Holding, time.Duration)                                          {}
func (noObserver) Trouble(error)                                                           {}

// Interface guard
var _ Observer = noObserver{}

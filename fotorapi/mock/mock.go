// Package mock plays Fotor: an API that takes tasks and tells what became of them, and
// callbacks about them. It is for tests, and for trying a gateway without an account
// (caddy fotor-webhook mock). It can lose and repeat callbacks, have tasks fail, refuse
// questions, and let a stranger forge callbacks; and it knows the truth of each task.
//
// Read the files in this order:
//   - mock.go: the server and its config
//   - task.go: a task, its fate, and the truth about it
//   - api.go: the API; fault.go: what can be wrong with it
//   - calls.go: callbacks, when they are due and how they are sent
//   - log.go: what happens, and the counts of it; object.go: Fotor's JSON
package mock

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	random "math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Defaults of Config.
const (
	DefaultDelay       = 2 * time.Second
	DefaultTimeout     = 30 * time.Second
	DefaultConcurrency = 32
	DefaultMaxTasks    = 100_000
)

// Config is how Fotor is played. Shares are from 0 (none) to 1 (all).
type Config struct {
	// Key is the API key that is accepted; "" for any.
	Key string

	// Callback is the URL that callbacks are sent to; "" for none.
	Callback string

	// Delay is how long a task takes on average; each takes between half and one and a half
	// of it. Default: DefaultDelay. A negative value is none.
	Delay time.Duration

	// NoProgress leaves out the callbacks that say that a task is in progress.
	NoProgress bool

	// Lose is the share of callbacks that are never sent.
	Lose float64

	// Duplicate is the share of final callbacks that are sent twice, every other one with a
	// later updateTime.
	Duplicate float64

	// Fail is the share of tasks that fail.
	Fail float64

	// Forge is the share of tasks during which somebody else sends a final callback: two
	// thirds about the task, with another outcome than its own, a third about a task that
	// does not exist. ForgedHost is in their URLs.
	Forge float64

	// TooOften is the share of questions that are answered 429.
	TooOften float64

	// Limit is how many questions a second are answered, the others get 429; 0 for all.
	Limit float64

	// RetryAfter is the header Retry-After of answers 429, in whole seconds; 0 for none.
	RetryAfter time.Duration

	// S3 gives images of avatars s3:// URLs, as Fotor sometimes does.
	S3 bool

	// Seed decides what happens by chance: tasks, in the order of their submission, get
	// the same ids and fates. 0 for a seed by chance.
	Seed uint64

	// Client sends callbacks, and Prepare, unless nil, completes their requests. Default: a
	// client that does not follow redirects, and waits DefaultTimeout for an answer.
	Client  *http.Client
	Prepare func(*http.Request)

	// Concurrency is how many callbacks are sent at once. Default: DefaultConcurrency.
	Concurrency int

	// MaxTasks is how many tasks are known at a time; beyond, the oldest are forgotten. If so
	// many callbacks wait, submissions are answered 503. Default: DefaultMaxTasks.
	MaxTasks int

	// Log, unless nil, is told what happens, one after the other. It must not call the
	// server.
	Log func(Entry)
}

// Server plays Fotor. It is an http.Handler, safe for concurrent use.
type Server struct {
	config   Config
	business string
	mux      *http.ServeMux
	limiter  *rate.Limiter // nil: none

	logging sync.Mutex // held while Log is called

	mu      sync.Mutex
	key     string
	fault   Fault
	tasks   map[string]*task
	order   []*task // the known tasks, oldest first
	number  uint64  // of tasks
	counts  Counts
	asked   []time.Time // the last questions
	chance  *random.Rand
	jobs    jobs          // callbacks that are not due yet
	waiting int           // callbacks that are not done
	idle    chan struct{} // closed when there are none

	wake    chan struct{} // there is another first job
	due     chan *job
	ended   context.Context
	end     context.CancelFunc
	working sync.WaitGroup
}

// New returns a server that has begun to play. Close ends it.
func New(c Config) (*Server, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c.setDefaults()
	s := &Server{
		config: c, key: c.Key, tasks: make(map[string]*task), idle: make(chan struct{}),
		chance: random.New(random.NewPCG(c.Seed, math.MaxUint64)),
		wake:   make(chan struct{}, 1), due: make(chan *job),
	}
	close(s.idle)
	if c.Limit > 0 {
		s.limiter = rate.NewLimiter(rate.Limit(c.Limit), max(1, int(c.Limit)))
	}
	s.business = idFrom(s.chance)
	s.mux = s.routes()
	s.ended, s.end = context.WithCancel(context.Background())
	s.working.Go(s.schedule)
	for range c.Concurrency {
		s.working.Go(s.work)
	}
	return s, nil
}

func (c *Config) check() error {
	for name, share := range map[string]float64{"Lose": c.Lose, "Duplicate": c.Duplicate, "Fail": c.Fail, "Forge": c.Forge, "TooOften": c.TooOften} {
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("%s is %g: expected a share from 0 to 1", name, share)
		}
	}
	if !(c.Limit >= 0 && c.Limit <= 1e6) {
		return fmt.Errorf("Limit is %g: expected 0 to 1000000 questions a second", c.Limit) //nolint:staticcheck // the name of a field
	}
	if c.Callback == "" {
		return nil
	}
	u, err := url.Parse(c.Callback)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return errors.New("Callback is no URL: expected one that begins with http:// or https:// and has a host") //nolint:staticcheck // the name of a field
	}
	return nil
}

func (c *Config) setDefaults() {
	if c.Delay == 0 {
		c.Delay = DefaultDelay
	}
	c.Delay = max(0, c.Delay)
	if c.Concurrency <= 0 {
		c.Concurrency = DefaultConcurrency
	}
	if c.MaxTasks <= 0 {
		c.MaxTasks = DefaultMaxTasks
	}
	if c.Client == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = c.Concurrency
		c.Client = &http.Client{
			Transport: transport, Timeout: DefaultTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if c.Seed == 0 {
		var seed [8]byte
		_, _ = rand.Read(seed[:]) // never fails
		c.Seed = binary.LittleEndian.Uint64(seed[:])
	}
}

// Seed returns the seed, also one by chance.
func (s *Server) Seed() uint64 { return s.config.Seed }

// SetKey changes the key that is accepted; "" for any.
func (s *Server) SetKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
}

// Drain waits until all callbacks of the tasks so far have been sent, or the context ends.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	idle := s.idle
	s.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends everything. Callbacks that are not due are not sent, those under way break off.
// Log is not called any more when it returns.
func (s *Server) Close() {
	s.end()
	s.working.Wait()
	s.logging.Lock() // requests may be under way still
	defer s.logging.Unlock()
	s.config.Client.CloseIdleConnections()
}

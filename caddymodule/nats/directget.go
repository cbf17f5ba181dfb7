package nats

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Any replica may answer a direct get, also one that stands still: the other
// servers notice that only when its connections break, a minute later or more.
// So a query without an answer is sent again, and then most likely another
// replica answers.
const (
	// queryRetry is the time of silence after which a query is sent again. It
	// doubles each time up to queryRetryMax, as the servers may be merely slow.
	queryRetry    = 200 * time.Millisecond
	queryRetryMax = time.Second

	// While a replica is known to be silent, queryRetrySilent is used instead
	// for the first quickRetries times. silentFor is how long that knowledge is
	// kept.
	queryRetrySilent = 20 * time.Millisecond
	quickRetries     = 4
	silentFor        = 5 * time.Second
)

// replies receives the answers to queries. There may be several to one query.
type replies struct {
	inbox   string
	mu      sync.Mutex
	number  uint64
	waiting map[string]*pendingQuery

	silent atomic.Int64 // until when a replica is known to be silent, in ns since 1970
}

// pendingQuery is a query that was sent at least once, each time with a reply
// subject of its own, so that the answers of two replicas are not mixed.
type pendingQuery struct {
	single  bool // the answer is a single message
	answers map[string]*answer
	heard   int // messages received for all answers
	done    chan *answer
}

// answer is the answer of one replica.
type answer struct {
	first    bool // to the query as it was first sent
	messages []message
	more     uint64
	err      error
}

// listen subscribes to answers.
func (r *replies) listen(conn *nats.Conn) error {
	r.inbox, r.waiting = conn.NewInbox(), map[string]*pendingQuery{}
	sub, err := conn.Subscribe(r.inbox+".*", r.receive)
	if err != nil {
		return err
	}
	return sub.SetPendingLimits(-1, -1)
}

// receive adds a message to its answer.
func (r *replies) receive(m *nats.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.waiting[m.Subject]
	if q == nil {
		return // nobody waits for it any more
	}
	q.heard++
	a := q.answers[m.Subject]
	if !a.add(m) && !q.single {
		return
	}
	delete(r.waiting, m.Subject)
	select {
	case q.done <- a:
	default: // another answer was first
	}
}

// add adds a message to the answer. It reports whether it is the last.
func (a *answer) add(m *nats.Msg) (end bool) {
	number := func(name string) uint64 {
		n, _ := strconv.ParseUint(m.Header.Get(name), 10, 64)
		return n
	}
	switch status := m.Header.Get("Status"); status {
	case "":
		a.messages = append(a.messages, message{m.Header.Get("Nats-Subject"), number("Nats-Sequence"), m.Header, m.Data})
		return false
	case "204":
		a.more = number("Nats-Num-Pending")
	case "404":
		a.messages = nil
	case "413":
		a.err = errTooMany
	case "503":
		a.err = errNoLeader
	default:
		a.err = fmt.Errorf("%s %s", status, m.Header.Get("Description"))
	}
	return true
}

// expect returns a reply subject for one more answer to the query.
func (r *replies) expect(q *pendingQuery) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.number++
	reply := r.inbox + "." + strconv.FormatUint(r.number, 10)
	q.answers[reply] = &answer{first: len(q.answers) == 0}
	r.waiting[reply] = q
	return reply
}

func (r *replies) forget(q *pendingQuery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for reply := range q.answers {
		delete(r.waiting, reply)
	}
}

func (r *replies) heard(q *pendingQuery) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return q.heard
}

// retryAfter returns how long to wait for an answer to a query that was sent so
// many times. With one replica nobody else could answer.
func (r *replies) retryAfter(times, replicas int) time.Duration {
	switch {
	case replicas == 1:
		return queryRetryMax
	case time.Now().UnixNano() >= r.silent.Load():
		return min(queryRetry<<min(times-1, 8), queryRetryMax)
	default:
		return min(queryRetrySilent<<min(max(0, times-quickRetries), 8), queryRetryMax)
	}
}

// directGet returns the messages that match one query, and how many more there
// are. Any replica may answer, so the result may be slightly outdated.
func (s *store) directGet(ctx context.Context, stream string, q query) (messages []message, more uint64, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, 0, err
	}
	r := &s.replies
	asked := &pendingQuery{single: q.Batch == 0 && q.MultiLast == nil, answers: map[string]*answer{}, done: make(chan *answer, 1)}
	defer r.forget(asked)
	for times := 1; ; times++ {
		if err := s.conn.PublishRequest("$JS.API.DIRECT.GET."+stream, r.expect(asked), body); err != nil {
			return nil, 0, err
		}
		a, err := r.await(ctx, asked, r.retryAfter(times, s.current.Load().replicas))
		switch {
		case err != nil:
			return nil, 0, err
		case a == nil:
			continue
		case !a.first:
			r.silent.Store(time.Now().Add(silentFor).UnixNano())
		}
		if a.err != nil {
			return nil, 0, fmt.Errorf("reading stream %s: %w", stream, a.err)
		}
		return a.messages, a.more, nil
	}
}

// await returns an answer, or nil if nothing was received for the time wait.
func (r *replies) await(ctx context.Context, q *pendingQuery, wait time.Duration) (*answer, error) {
	for heard := r.heard(q); ; {
		timer := time.NewTimer(wait)
		select {
		case a := <-q.done:
			timer.Stop()
			return a, nil
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
		now := r.heard(q)
		if now == heard {
			return nil, nil //nolint:nilnil // there is no answer yet
		}
		heard = now
	}
}

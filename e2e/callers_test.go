package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// callers stand for Fotor: some clients, each with a connection that it keeps,
// post the notices of one task after another until they are stopped, and
// remember what they were answered.
type callers struct {
	urls []string // the next one is tried when one fails
	name string   // begins the ids of their tasks, unlike those of other callers
	stop chan struct{}
	wg   sync.WaitGroup

	mu       sync.Mutex
	told     map[string]told // what was answered 200, by event id
	finals   map[string]bool // tasks whose final notice was answered 200
	answers  int
	other    map[string]int // answers that were not 200, by status and body
	broken   map[string]int // requests that got no answer, by error
	repeated int            // notices that were sent again though they had been answered 200
	faults   []string       // answers that contradict earlier ones

	// disorder excuses events that come out of their task's order: what a
	// Caddy that stood still sends when it goes on nobody can call back.
	disorder bool
	lost     []string // ids that Check missed
}

// told is a notice that was answered 200.
type told struct {
	task  string
	final bool
}

// chapter is one notice of a task.
type chapter struct {
	body   string
	final  bool
	repeat bool // the one before, sent again
}

// story returns what the callers tell of a task: one of five kinds.
func story(task string, kind int) []chapter {
	tell := func(step, status int) chapter {
		body := fmt.Sprintf(`{"taskId":%q,"status":%d,"type":"text2img","businessId":"%d","resultUrl":"https://static.fotor.com.cn/%s/%s"}`,
			task, status, step, task, strings.Repeat("x", 200))
		return chapter{body: body, final: status != 0}
	}
	again := func(c chapter) chapter {
		c.repeat = true
		return c
	}
	switch kind % 5 {
	case 0:
		return []chapter{tell(0, 1)}
	case 1:
		return []chapter{tell(0, 0), tell(1, 1)}
	case 2:
		return []chapter{tell(0, 2), tell(1, 1)}
	case 3:
		return []chapter{tell(0, 1), again(tell(0, 1))}
	default:
		return []chapter{tell(0, 0), again(tell(0, 0)), tell(1, 1), tell(2, 2), again(tell(1, 1))}
	}
}

var callersMade atomic.Int64

// call starts callers of a URL, who turn to the others when it fails. They are
// stopped when the test ends.
func call(t *testing.T, url string, n int, others ...string) *callers {
	t.Helper()
	c := &callers{
		urls:   append([]string{url}, others...),
		name:   fmt.Sprint("callers-", callersMade.Add(1)),
		stop:   make(chan struct{}),
		told:   make(map[string]told),
		finals: make(map[string]bool),
		other:  make(map[string]int),
		broken: make(map[string]int),
	}
	for i := range n {
		c.wg.Go(func() { c.run(t, i) })
	}
	t.Cleanup(c.Stop)
	return c
}

// Stop lets every caller finish its task. Stopping again does nothing.
func (c *callers) Stop() {
	c.mu.Lock()
	select {
	case <-c.stop:
	default:
		close(c.stop)
	}
	c.mu.Unlock()
	c.wg.Wait()
}

func (c *callers) run(t *testing.T, caller int) {
	client := &http.Client{Transport: new(http.Transport), Timeout: patience}
	defer client.CloseIdleConnections()
	for n := 0; ; n++ {
		select {
		case <-c.stop:
			return
		default:
		}
		task := fmt.Sprintf("%s-%d-%d", c.name, caller, n)
		for _, ch := range story(task, n) {
			c.tell(t, client, task, ch)
		}
	}
}

// tell sends a notice: a final one until it is answered 200, as a caller does
// that wants to be heard, another one once. What was seen to be answered 200
// must be a duplicate from then on.
func (c *callers) tell(t *testing.T, client *http.Client, task string, ch chapter) {
	known := false
	deadline := time.Now().Add(patience)
	for try := 0; time.Now().Before(deadline); try++ {
		answer, err := c.post(t, client, c.urls[try%len(c.urls)], ch.body)
		if err == nil && answer.Status == http.StatusOK {
			c.note(task, ch, answer, known)
			return
		}
		c.noteFailure(answer, err)
		// the status line came, the rest broke off
		known = known || answer.Status == http.StatusOK
		if !ch.final && !known {
			return
		}
		time.Sleep(5 * time.Millisecond) // while nobody listens, the machine has better things to do
	}
	c.fault("task %s: no 200 within %s", task, patience)
}

// post sends a body. The answer's status is set, also if the rest broke off.
func (c *callers) post(t *testing.T, client *http.Client, url, body string) (answer reply, err error) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return answer, err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := client.Do(r)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	answer.Status = response.StatusCode
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer, err
	}
	answer.Body = string(text)
	return answer, json.Unmarshal(text, &answer)
}

func (c *callers) note(task string, ch chapter, answer reply, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers++
	_, before := c.told[answer.ID]
	if (known || before) && !answer.Duplicate {
		c.faults = append(c.faults, fmt.Sprintf("task %s: event %s was accepted twice", task, answer.ID))
	}
	if ch.repeat && before {
		c.repeated++
	}
	c.told[answer.ID] = told{task, ch.final}
	if ch.final {
		c.finals[task] = true
	}
}

func (c *callers) noteFailure(answer reply, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		for cause := err; cause != nil; cause = errors.Unwrap(cause) {
			err = cause
		}
		c.broken[err.Error()]++
		return
	}
	c.other[fmt.Sprint(answer.Status, " ", answer.Body)]++
}

func (c *callers) fault(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

// Answers returns how many requests were answered 200.
func (c *callers) Answers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answers
}

// Broken returns how many requests got no answer.
func (c *callers) Broken() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, times := range c.broken {
		n += times
	}
	return n
}

// Unavailable returns how many requests were answered 503, and excuses them.
func (c *callers) Unavailable() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for answer, times := range c.other {
		if strings.HasPrefix(answer, "503 ") {
			n += times
			delete(c.other, answer)
		}
	}
	return n
}

// AwaitAnswers waits until n more requests were answered 200.
func (c *callers) AwaitAnswers(t *testing.T, n int) {
	t.Helper()
	n += c.Answers()
	await(t, func() bool { return c.Answers() >= n }, "answers to callers")
}

// Check holds what the callers were answered against what the upstream got, of
// which it took what takes says. It returns how many deliveries were repeats of
// an event that the upstream had taken.
func (c *callers) Check(t *testing.T, all []delivery, takes func(delivery) bool) (repeats int) {
	t.Helper()
	var deliveries []delivery
	for _, d := range all {
		if strings.HasPrefix(d.Event.TaskID, c.name+"-") {
			deliveries = append(deliveries, d)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	require.NotEmpty(t, c.told)
	assert.Empty(t, c.other, "answers other than 200")
	assert.Empty(t, c.faults)

	taken := make(map[string]int)
	for _, d := range deliveries {
		if takes(d) {
			taken[d.Event.ID]++
		}
	}
	for id, what := range c.told {
		superseded := !what.final && c.finals[what.task]
		if taken[id] == 0 && !superseded {
			c.lost = append(c.lost, id)
		}
	}
	assert.Empty(t, c.lost, "events that were answered 200 and did not reach the upstream, of %d", len(c.told))
	misplaced := disorder(t, deliveries, takes)
	if c.disorder {
		t.Logf("%d events that came out of their task's order", misplaced)
	} else {
		assert.Zero(t, misplaced, "events that came out of their task's order, of %d", len(deliveries))
	}
	for _, times := range taken {
		repeats += times - 1
	}
	return repeats
}

// disorder counts the notices that arrived before one of their task that was
// sent before them, or before the upstream had taken the final one before them.
func disorder(t *testing.T, deliveries []delivery, takes func(delivery) bool) (misplaced int) {
	t.Helper()
	type progress struct {
		arrived map[int]string // the status, by the number of the notice
		taken   map[int]bool
	}
	tasks := make(map[string]*progress)
	for _, d := range deliveries {
		step, err := strconv.Atoi(d.Event.BusinessID)
		require.NoError(t, err)
		p := tasks[d.Event.TaskID]
		if p == nil {
			p = &progress{make(map[int]string), make(map[int]bool)}
			tasks[d.Event.TaskID] = p
		}
		if p.arrived[step] == "" {
			for other, status := range p.arrived {
				if other > step || (status != "in_progress" && !p.taken[other]) {
					misplaced++
				}
			}
		}
		p.arrived[step] = d.Event.Status
		p.taken[step] = p.taken[step] || takes(d)
	}
	return misplaced
}

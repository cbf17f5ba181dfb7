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

// callers play Fotor: several clients, each with a kept connection, post the callbacks of
// one task after another until they are stopped, and remember the answers.
type callers struct {
	urls []string // when one fails, the next one is tried
	name string   // unique; the ids of their tasks begin with it
	stop chan struct{}
	wg   sync.WaitGroup

	mu       sync.Mutex
	accepted map[string]accepted // callbacks that were answered 200, by event id
	finals   map[string]bool     // tasks of which a final callback was answered 200
	answers  int
	other    map[string]int // answers that were not 200, by status and body
	broken   map[string]int // requests without an answer, by error
	repeated int            // callbacks that were sent again after they had been answered 200
	faults   []string       // answers that contradict earlier ones

	// disorder allows events to arrive out of their task's order: a Caddy that stood
	// still may send one when it goes on.
	disorder bool
	lost     []string // ids of events that Check has found to be lost
}

// accepted is a callback that was answered 200.
type accepted struct {
	task  string
	final bool
}

// step is one callback of a task.
type step struct {
	body   string
	final  bool
	repeat bool // an earlier one, sent again
}

// script returns the callbacks of a task. There are five kinds of tasks.
func script(task string, kind int) []step {
	tell := func(number, status int) step {
		body := fmt.Sprintf(`{"taskId":%q,"status":%d,"type":"text2img","businessId":"%d","resultUrl":"https://static.fotor.com.cn/%s/%s"}`,
			task, status, number, task, strings.Repeat("x", 200))
		return step{body: body, final: status != 0}
	}
	again := func(c step) step {
		c.repeat = true
		return c
	}
	switch kind % 5 {
	case 0:
		return []step{tell(0, 1)}
	case 1:
		return []step{tell(0, 0), tell(1, 1)}
	case 2:
		return []step{tell(0, 2), tell(1, 1)}
	case 3:
		return []step{tell(0, 1), again(tell(0, 1))}
	default:
		return []step{tell(0, 0), again(tell(0, 0)), tell(1, 1), tell(2, 2), again(tell(1, 1))}
	}
}

var callersMade atomic.Int64

// call starts n callers of a URL, which use the others when it fails. They are stopped
// when the test ends.
func call(t *testing.T, url string, n int, others ...string) *callers {
	t.Helper()
	c := &callers{
		urls:     append([]string{url}, others...),
		name:     fmt.Sprint("callers-", callersMade.Add(1)),
		stop:     make(chan struct{}),
		accepted: make(map[string]accepted),
		finals:   make(map[string]bool),
		other:    make(map[string]int),
		broken:   make(map[string]int),
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
	client := &http.Client{Transport: new(http.Transport), Timeout: answerPatience}
	defer client.CloseIdleConnections()
	for n := 0; ; n++ {
		select {
		case <-c.stop:
			return
		default:
		}
		task := fmt.Sprintf("%s-%d-%d", c.name, caller, n)
		for _, st := range script(task, n) {
			c.send(t, client, task, st)
		}
	}
}

// send sends a callback. A final one is sent until it is answered 200, another one once.
// After an answer 200 every further one must say that it is a duplicate.
func (c *callers) send(t *testing.T, client *http.Client, task string, st step) {
	known := false
	deadline := time.Now().Add(patience)
	for try := 0; time.Now().Before(deadline); try++ {
		answer, err := c.post(t, client, c.urls[try%len(c.urls)], st.body)
		if err == nil && answer.Status == http.StatusOK {
			c.note(task, st, answer, known)
			return
		}
		c.noteFailure(answer, err)
		// the status arrived, but the rest broke off
		known = known || answer.Status == http.StatusOK
		if !st.final && !known {
			return
		}
		time.Sleep(5 * time.Millisecond) // no busy loop while nothing listens
	}
	c.fault("task %s: no 200 within %s", task, patience)
}

// post sends a body. The answer's status is set even if the rest broke off.
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

func (c *callers) note(task string, st step, answer reply, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers++
	_, before := c.accepted[answer.ID]
	if (known || before) && !answer.Duplicate {
		c.faults = append(c.faults, fmt.Sprintf("task %s: event %s was accepted twice", task, answer.ID))
	}
	if st.repeat && before {
		c.repeated++
	}
	c.accepted[answer.ID] = accepted{task, st.final}
	if st.final {
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

// Broken returns how many requests had no answer.
func (c *callers) Broken() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, times := range c.broken {
		n += times
	}
	return n
}

// Unavailable returns how many requests were answered 503, and makes Check allow them.
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

// Check compares the answers to the callers with all deliveries to the upstream, which took
// those for which takes is true. It returns how many were repeats of an event that the
// upstream had taken.
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
	require.NotEmpty(t, c.accepted)
	assert.Empty(t, c.other, "answers other than 200")
	assert.Empty(t, c.faults)

	taken := make(map[string]int)
	for _, d := range deliveries {
		if takes(d) {
			taken[d.Event.ID]++
		}
	}
	for id, what := range c.accepted {
		superseded := !what.final && c.finals[what.task]
		if taken[id] == 0 && !superseded {
			c.lost = append(c.lost, id)
		}
	}
	assert.Empty(t, c.lost, "events that were answered 200 and did not reach the upstream, of %d", len(c.accepted))
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

// disorder counts the events that arrived before an earlier one of their task, or before
// the upstream had taken an earlier final one.
func disorder(t *testing.T, deliveries []delivery, takes func(delivery) bool) (misplaced int) {
	t.Helper()
	type progress struct {
		arrived map[int]string // statuses, by the number of the callback within its task
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

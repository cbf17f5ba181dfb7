package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/fotorapi/mock"
	"github.com/fotor-webhook/caddy-fotor-webhook/reconcile"
)

var (
	// askingTasks is how many tasks TestAskingFotor and TestNobodyButFotorIsTrusted submit.
	askingTasks = flag.Int("asking.tasks", 300, "how many tasks the tests submit that ask Fotor")

	// askingRate is how many questions a second may be put, unless a test says otherwise.
	askingRate = flag.Int("asking.rate", 50, "how many questions a second may be put, at most 100")
)

// fotor is a stand-in for Fotor, and gateways that ask it.
type fotor struct {
	*mock.Server
	t        *testing.T
	api      *httptest.Server
	up       *upstream
	more     string   // options of fotor_api
	rate     int      // how many questions a second the gateways may put together
	answered []string // tasks whose submissions were answered through a gateway
	mu       sync.Mutex
}

// newFotor starts a stand-in that sends its callbacks to a gateway.
func newFotor(t *testing.T, g *gateway, config mock.Config) *fotor {
	t.Helper()
	config.Callback, config.Key = g.URL(), "the-key"
	server, err := mock.New(config)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	f := &fotor{Server: server, t: t, api: httptest.NewServer(server), up: newUpstream(t, picky), rate: *askingRate}
	t.Cleanup(f.api.Close)
	return f
}

// asking is the option fotor_api with a key, and more options.
func (f *fotor) asking(key, reconcile string) string {
	return fmt.Sprintf("\nfotor_api {\nkey %s\nurl %s\nrate %d/s\n%s\nreconcile {\n%s\n}\n}\n", key, f.api.URL, f.rate, f.more, reconcile)
}

// edge starts a Caddy that asks, and through which tasks can be submitted.
func (f *fotor) edge(g *gateway, inbox string) *edge {
	f.t.Helper()
	e := &edge{gateway: g, config: f.config(g, inbox)}
	e.Again()
	return e
}

// config is that of a Caddy that asks, and through which tasks can be submitted.
func (f *fotor) config(g *gateway, inbox string) string {
	return g.Caddyfile("forward "+f.up.URL+quick+f.asking("the-key", "after 2s\nevery 2s")+inbox,
		"handle_path /dashboard/* {\nfotor_webhook_dashboard {\nallow_actions\n}\n}\nhandle /v1/* {\nfotor_tasks\nreverse_proxy "+f.api.Listener.Addr().String()+"\n}", quiet)
}

// submit submits tasks through a gateway, eight at a time. Those whose answer did not come
// do not count: nobody knows them.
func (f *fotor) submit(g *gateway, n int) {
	f.t.Helper()
	tasks := make(chan int, n)
	for i := range n {
		tasks <- i
	}
	close(tasks)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for i := range tasks {
				f.submitOne(g, []string{"avatar", "text2img", "text2video"}[i%3])
			}
		})
	}
	callers.Wait()
}

func (f *fotor) submitOne(g *gateway, product string) {
	r := newRequest(f.t, fmt.Sprintf("http://127.0.0.1:%d/v1/aiart/%s", g.Port, product), strings.NewReader("{}"),
		"Authorization", "Bearer the-key", "Content-Type", "application/json")
	answer, err := try(r)
	if err != nil || answer.Status != http.StatusOK {
		return
	}
	var submitted struct {
		Data struct {
			TaskID string `json:"taskId"`
		} `json:"data"`
	}
	if json.Unmarshal([]byte(answer.Body), &submitted) == nil && submitted.Data.TaskID != "" {
		f.mu.Lock()
		f.answered = append(f.answered, submitted.Data.TaskID)
		f.mu.Unlock()
	}
}

// settled waits until a gateway waits for no task and no event.
func (f *fotor) settled(g *gateway) {
	f.t.Helper()
	long := patience + time.Duration(len(f.answered))*100*time.Millisecond // the rate bounds how soon they end
	require.Eventually(f.t, func() bool {
		return g.Metric(`caddy_fotor_webhook_tasks{handler="default"}`) == 0 && g.Events("pending") == 0
	}, long, 10*time.Millisecond, "waiting for all tasks to end")
}

// outcome is what an event tells, or what is true of its task.
type outcome struct {
	Status string
	URLs   []string
}

// finals returns what was delivered of each task's end, each event once.
func (f *fotor) finals() map[string][]outcome {
	f.t.Helper()
	seen, finals := make(map[string]bool), make(map[string][]outcome)
	for _, d := range f.up.Deliveries() {
		if seen[d.Event.ID] || d.Event.Status == "in_progress" {
			continue
		}
		seen[d.Event.ID] = true
		var body struct {
			ResultURL *string `json:"resultUrl"`
			Avatars   []struct {
				Images []struct {
					URL string `json:"url"`
				} `json:"images"`
			} `json:"avatars"`
		}
		require.NoError(f.t, json.Unmarshal(d.Body, &body))
		told := outcome{Status: d.Event.Status}
		if body.ResultURL != nil {
			told.URLs = append(told.URLs, *body.ResultURL)
		}
		for _, a := range body.Avatars {
			for _, i := range a.Images {
				told.URLs = append(told.URLs, i.URL)
			}
		}
		finals[d.Event.TaskID] = append(finals[d.Event.TaskID], told)
	}
	return finals
}

// truth returns how each task has ended.
func (f *fotor) truth() map[string]outcome {
	truth := make(map[string]outcome)
	for _, o := range f.Outcomes() {
		told := outcome{Status: []string{"in_progress", "completed", "failed"}[o.Final.Status]}
		if url := o.Final.ResultURL; url != nil && *url != "" {
			told.URLs = append(told.URLs, *url)
		}
		for _, a := range o.Final.AvatarResult {
			for _, i := range a.Images {
				told.URLs = append(told.URLs, strings.Replace(i.URL, "s3://img-pub-fotor/", "https://pub-static.fotor.com/", 1))
			}
		}
		truth[o.TaskID] = told
	}
	return truth
}

// check compares what was delivered with the truth: each task that was answered has its
// outcome once, and no task has another one.
func (f *fotor) check(since time.Time) {
	t := f.t
	t.Helper()
	finals, truth := f.finals(), f.truth()
	for _, id := range f.answered {
		assert.Equal(t, []outcome{truth[id]}, finals[id], "task %s", id)
	}
	for id, told := range finals {
		assert.Equal(t, []outcome{truth[id]}, told, "task %s", id)
	}
	counts := f.Counts()
	asked, most := total(counts.Questions), int64(time.Since(since).Seconds()*float64(f.rate))+10
	assert.LessOrEqual(t, asked, most, "questions")
	t.Logf("%d of %d tasks were answered, %d have an end; %d callbacks sent, %d lost; %d questions, at most %d in a second",
		len(f.answered), len(truth), len(finals), total(counts.Callbacks), counts.Lost, asked, f.Most(time.Second))
}

// total adds counts.
func total(counts map[int]int64) (n int64) {
	for _, count := range counts {
		n += count
	}
	return n
}

// Callbacks that do not come, because they get lost or the gateway is away, are asked for:
// each task has its outcome once, whatever happens to the gateway meanwhile.
func TestAskingFotor(t *testing.T) {
	playAsking(t, mock.Config{Lose: 0.2, Duplicate: 0.05, Fail: 0.1, TooOften: 0.05, S3: true, Delay: time.Second, Seed: 15}, "",
		func(*fotor, *gateway) {})
}

// playAsking has tasks submitted and their ends delivered, each once, on both inboxes: with a
// Caddy that is killed, stopped and reloaded, and with two of which one is killed. check is
// called after each, with a gateway that runs.
func playAsking(t *testing.T, config mock.Config, options string, check func(f *fotor, g *gateway)) {
	t.Run("sqlite", func(t *testing.T) {
		began := time.Now()
		g := newGateway(t)
		f := newFotor(t, g, config)
		f.more = options
		e := f.edge(g, "")
		f.submit(g, *askingTasks/3)
		e.Kill()
		e.Again()
		f.submit(g, *askingTasks/3)
		e.Leave()
		e.Again()
		f.submit(g, *askingTasks/3)
		require.Equal(t, http.StatusOK, e.reload())
		require.NoError(t, f.drained())
		f.settled(g)
		f.check(began)
		check(f, g)
	})
	t.Run("nats", func(t *testing.T) {
		nats := newCluster(t, 1)
		began := time.Now()
		g := newGateway(t)
		f := newFotor(t, g, config)
		f.more = options
		a, b := f.edge(g, nats.Inbox("")), f.edge(newGateway(t), nats.Inbox(""))
		f.submit(a.gateway, *askingTasks/3)
		a.Kill() // the other one asks in its place
		f.submit(b.gateway, *askingTasks/3)
		f.settled(b.gateway)
		a.Again()
		f.submit(a.gateway, *askingTasks/3)
		require.NoError(t, f.drained())
		f.settled(b.gateway)
		f.settled(a.gateway)
		f.check(began)
		check(f, b.gateway)
	})
}

// Caddys that share an inbox share the rate, also while one joins, dies, comes back and
// leaves.
func TestCaddysShareTheRate(t *testing.T) {
	nats := newCluster(t, 1)
	g := newGateway(t)
	f := newFotor(t, g, mock.Config{Lose: 1, Delay: -1, Seed: 6})
	f.rate = 10
	asks := func(e *edge, rate float64) {
		t.Helper()
		before := e.gateway.asked()
		await(t, func() bool {
			return math.Abs(e.gateway.Metric(`caddy_fotor_webhook_question_rate{handler="default"}`)-rate) < 0.01 &&
				e.gateway.asked() >= before+10
		}, "questions at %g a second", rate)
	}
	a := f.edge(g, nats.Inbox(""))
	f.submit(a.gateway, 1000) // there is always one to ask for
	asks(a, 10)
	b := f.edge(newGateway(t), nats.Inbox(""))
	asks(b, 5)
	asks(a, 5)
	status, err := command(t, "fotor-webhook", "status", "--address", fmt.Sprintf("127.0.0.1:%d", b.Admin)).CombinedOutput()
	require.NoError(t, err)
	assert.Contains(t, string(status), "5/s of 10/s, because 2 Caddys ask")
	a.Kill()
	asks(b, 10)
	a.Again()
	asks(a, 5)
	require.Equal(t, http.StatusOK, a.reload())
	asks(b, 5)
	b.Leave()
	asks(a, 10)

	asked := total(f.Counts().Questions)
	for _, window := range []time.Duration{2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute} {
		// A question may be a while under way, and there is one more for each Caddy.
		assert.LessOrEqual(t, f.Most(window), f.rate*int(window/time.Second+1)+2, "of %d questions in %v", asked, window)
	}
	t.Logf("%d questions, at most %d in a second, %d in ten", asked, f.Most(time.Second), f.Most(10*time.Second))
}

// asked returns how many questions a gateway has put.
func (g *gateway) asked() (n float64) {
	for _, r := range reconcile.Results {
		n += g.Metric(fmt.Sprintf("caddy_fotor_webhook_questions_total{handler=%q,result=%q}", "default", r))
	}
	return n
}

// drained waits until the stand-in has sent its callbacks.
func (f *fotor) drained() error {
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	return f.Drain(ctx)
}

// reload loads the config again, and returns the status of the answer.
func (e *edge) reload() int {
	t := e.gateway.t
	t.Helper()
	r := newRequest(t, fmt.Sprintf("http://127.0.0.1:%d/load", e.Admin), strings.NewReader(e.config),
		"Content-Type", "text/caddyfile", "Cache-Control", "must-revalidate")
	return do(t, r).Status
}

// A key that Fotor refuses ends the questions, which is told; with another one they go on.
func TestARefusedKey(t *testing.T) {
	g := newGateway(t)
	f := newFotor(t, g, mock.Config{Lose: 1, Delay: -1, Seed: 1})
	options := "forward " + f.up.URL + quick
	site := "handle /v1/* {\nfotor_tasks\nreverse_proxy " + f.api.Listener.Addr().String() + "\n}"
	e := &edge{gateway: g, config: g.Caddyfile(options+f.asking("a-wrong-key", "after 1s\nevery 1s"), site, "")}
	e.Again()
	f.submit(g, 10)
	works := `caddy_fotor_webhook_asking{handler="default"}`
	await(t, func() bool { return g.Metric(works) == 0 }, "the key to be refused")
	check := command(t, "fotor-webhook", "status", "--check", "--address", fmt.Sprintf("127.0.0.1:%d", g.Admin))
	said, err := check.CombinedOutput()
	require.Error(t, err)
	assert.Equal(t, 5, check.ProcessState.ExitCode())
	assert.Contains(t, string(said), "Fotor refuses the key of fotor_api")
	assert.InDelta(t, 10, g.Metric(`caddy_fotor_webhook_tasks{handler="default"}`), 0)

	e.config = g.Caddyfile(options+f.asking("the-key", "after 1s\nevery 1s"), site, "")
	require.Equal(t, http.StatusOK, e.reload())
	f.settled(g)
	assert.InDelta(t, 1, g.Metric(works), 0)
	assert.Len(t, f.finals(), 10)
	log := e.Output.String()
	assert.Equal(t, 1, strings.Count(log, "Fotor refuses the key of fotor_api"), "it is told once")
	assert.NotContains(t, log, "a-wrong-key")
	assert.NotContains(t, log, "the-key")
}

// What is of no use or not safe is told when the config is loaded.
func TestLoadsThatAskNobodyOrInTheOpen(t *testing.T) {
	g := newGateway(t)
	proxy := "handle /v1/* {\nfotor_tasks\nreverse_proxy 127.0.0.1:9\n}"
	require.ErrorContains(t, g.Load(g.Caddyfile("forward http://127.0.0.1:9", proxy, quiet)),
		`fotor_tasks: the fotor_webhook handler "default" has no fotor_api, so Fotor would never be asked for the tasks`)
	e := &edge{gateway: g, config: g.Caddyfile("forward http://127.0.0.1:9\nfotor_api {\nkey the-key\nurl http://api.invalid\n}", proxy, "log {\nlevel WARN\n}")}
	e.Again()
	log := e.Output.String()
	assert.Contains(t, log, "the key goes over plain http to another host")
	assert.Contains(t, log, `"url":"http://api.invalid"`)
	assert.NotContains(t, log, "the-key")
}

// Whatever is wrong with the API for a while, no task is lost or ends wrongly.
func TestAskingAnAPIInTrouble(t *testing.T) {
	g := newGateway(t)
	f := newFotor(t, g, mock.Config{Lose: 1, Delay: -1, Seed: 2})
	f.edge(g, "")
	for _, fault := range []mock.Fault{
		{Kind: mock.Down},
		{Kind: mock.Status, Status: http.StatusTooManyRequests},
		{Kind: mock.CutOff},
		{Kind: mock.Huge},
		{Kind: mock.Redirect, Target: f.up.URL},
		{Kind: mock.NotJSON},
		{Kind: mock.WrongTask},
		{Kind: mock.NoTask},
	} {
		f.submit(g, 3)
		before := total(f.Counts().Questions)
		f.SetFault(fault)
		await(t, func() bool { return total(f.Counts().Questions) >= before+2 }, "questions with the fault %s", fault.Kind)
		f.SetFault(mock.Fault{})
	}
	f.settled(g)
	f.check(time.Time{})
	for _, d := range f.up.Deliveries() {
		assert.Empty(t, d.Header.Get("Authorization"), "a redirect does not get the key")
	}
}

// A task of which Fotor says no end is lost, and the destinations and Caddy's events are told.
func TestALostTask(t *testing.T) {
	record(t)
	g := newGateway(t)
	f := newFotor(t, g, mock.Config{Lose: 1, Delay: -1, Seed: 3})
	g.Start("forward "+f.up.URL+quick+f.asking("the-key", "after 1s\nevery 1s\ngive_up 3s"), "", subscribed+quiet)
	f.SetFault(mock.Fault{Kind: mock.NoTask})
	g.Accept(notice("a-task", 0))
	await(t, func() bool {
		return slices.ContainsFunc(f.up.Deliveries(), func(d delivery) bool { return d.Event.Status == "lost" })
	}, "the task to be lost")
	f.settled(g)
	for id, told := range f.finals() {
		assert.Equal(t, "a-task", id)
		assert.Equal(t, []outcome{{Status: "lost"}}, told)
	}
	assert.InDelta(t, 1, g.Metric(`caddy_fotor_webhook_tasks_lost_total{handler="default"}`), 0)
	lost := named(t, "lost", 1)
	require.Len(t, lost, 1)
	assert.Equal(t, "a-task", lost[0].Data["task_id"])
	assert.GreaterOrEqual(t, lost[0].Data["asked"], 3)
	assert.NotEmpty(t, lost[0].Data["since"])
}

package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/openapi"
)

// register is a handler that tracks tasks, in memory.
type register struct {
	control.Gateway
	asking bool
	got    []string
	err    error
}

// registerInbox is its inbox.
type registerInbox struct {
	inbox.Inbox
	inbox.Tracker
	*register
}

func (g *register) Inbox() inbox.Inbox { return registerInbox{register: g} }
func (g *register) Asking() bool       { return g.asking }

func (g *register) Track(_ context.Context, source inbox.TaskSource, ids ...string) (control.Tracked, error) {
	if !g.asking {
		return control.Tracked{}, control.ErrNotAsking
	}
	if err := control.CheckTaskIDs(ids); err != nil {
		return control.Tracked{}, err
	}
	g.got = append(g.got, fmt.Sprint(source, " ", ids))
	return control.Tracked{Added: len(ids)}, g.err
}

var sampleTask = inbox.Task{ID: "a/b ü", Source: inbox.FromNotice, Since: time.Unix(10, 0), Due: time.Unix(20, 0)}

func (g registerInbox) Track(context.Context, ...inbox.Task) (int, error) { panic("not asked for") }

func (g registerInbox) Tasks(_ context.Context, p inbox.Page) ([]inbox.Task, string, error) {
	if p.Cursor != "" {
		return nil, "", inbox.ErrCursor
	}
	asked := sampleTask
	asked.ID, asked.Asked, asked.AskedAt, asked.Answer = "t2", 2, time.Unix(15, 0), "in progress"
	return []inbox.Task{sampleTask, asked}, "n", g.err
}

func (g registerInbox) Task(_ context.Context, id string) (inbox.Task, error) {
	if id != sampleTask.ID {
		return inbox.Task{}, inbox.ErrNotFound
	}
	return sampleTask, g.err
}

func (g registerInbox) Untrack(_ context.Context, ids ...string) (int, error) {
	if ids[0] != sampleTask.ID {
		return 0, g.err
	}
	g.got = append(g.got, "untrack "+ids[0])
	return 1, g.err
}

const samplePath = "shop/tasks/a%2Fb%20%C3%BC"

// askTasks makes a request, and holds the answer against its description.
func askTasks(t *testing.T, g control.Gateway, method, path, query, body string) (status int, answer string, logged map[string]any) {
	t.Helper()
	status, answer, logged = request(t, g, method, path, query, body)
	document := answer
	if !strings.HasPrefix(answer, "{") && status != 204 {
		encoded, err := json.Marshal(map[string]string{"error": answer})
		require.NoError(t, err)
		document = string(encoded)
	}
	media := "application/json"
	if status == 204 {
		media = ""
	}
	openapi.Load(t).Check(t, method, control.Root+path, status, media, []byte(document))
	return status, answer, logged
}

func TestTrack(t *testing.T) {
	many, err := json.Marshal(map[string][]string{"tasks": make([]string, inbox.MaxTrack+1)})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		body   string
		status int
		answer string // the end of it
		got    []string
	}{
		"two":           {`{"tasks":["a","b\u0000\n"]}`, 200, `{"added":2,"known":0}`, []string{"operator [a b\x00\n]"}},
		"a bad one":     {`{"tasks":["a",""]}`, 422, `{"error":"no task was tracked: /tasks/1 is empty; expected the id of a task","problems":[{"pointer":"/tasks/1","detail":"is empty; expected the id of a task"}]}`, nil},
		"none":          {`{"tasks":[]}`, 422, `{"error":"no task was tracked: /tasks has 0 ids; expected 1 to 1000","problems":[{"pointer":"/tasks","detail":"has 0 ids; expected 1 to 1000"}]}`, nil},
		"no body":       {``, 422, `{"error":"no task was tracked: /tasks has 0 ids; expected 1 to 1000","problems":[{"pointer":"/tasks","detail":"has 0 ids; expected 1 to 1000"}]}`, nil},
		"too many":      {string(many), 422, `{"error":"no task was tracked: /tasks has 1001 ids; expected 1 to 1000","problems":[{"pointer":"/tasks","detail":"has 1001 ids; expected 1 to 1000"}]}`, nil},
		"a number":      {`{"tasks":["a",1]}`, 400, `within "/tasks/1"`, nil},
		"another field": {`{"task":"a"}`, 400, `unknown object member name "task"`, nil},
		"no JSON":       {`a`, 400, `invalid character 'a' at start of value`, nil},
		"too long":      {strings.Repeat(" ", maxTaskBody+1), 400, `the body is larger than 2097152 bytes`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			g := &register{asking: true}
			status, answer, logged := askTasks(t, g, "POST", "shop/tasks", "", c.body)
			require.Equal(t, c.status, status, answer)
			require.True(t, strings.HasSuffix(answer, c.answer), answer)
			require.Equal(t, c.got, g.got)
			if status == 200 {
				require.Equal(t, map[string]any{"handler": "shop", "remote": "192.0.2.1:1234", "added": int64(2), "known": int64(0)}, logged)
			} else {
				require.Nil(t, logged)
			}
		})
	}
}

func TestTrackTakesTheLongestIDsEscaped(t *testing.T) {
	id := `"` + strings.Repeat(`\u0001`, inbox.MaxTaskID) + `"`
	body := `{"tasks":[` + strings.TrimSuffix(strings.Repeat(id+",", inbox.MaxTrack), ",") + `]}`
	status, answer, _ := askTasks(t, &register{asking: true}, "POST", "shop/tasks", "", body)
	require.Equal(t, 200, status, answer)
}

func TestTrackWithoutAPI(t *testing.T) {
	status, answer, _ := askTasks(t, new(register), "POST", "shop/tasks", "", `{"tasks":["a"]}`)
	require.Equal(t, 409, status)
	require.Contains(t, answer, "expected a block fotor_api")

	status, answer, _ = askTasks(t, new(register), "GET", "shop/tasks", "", "")
	require.Equal(t, 200, status)
	require.Contains(t, answer, `"asking":false`)
}

func TestTasksAreListedShownAndUntracked(t *testing.T) {
	g := &register{asking: true}
	status, answer, _ := askTasks(t, g, "GET", "shop/tasks", "limit=2&order=asc", "")
	require.Equal(t, 200, status)
	const first = `{"taskId":"a/b ü","source":"callback","since":"1970-01-01T00:00:10Z","due":"1970-01-01T00:00:20Z","asked":0}`
	require.JSONEq(t, `{"tasks":[`+first+`,{"taskId":"t2","source":"callback","since":"1970-01-01T00:00:10Z","due":"1970-01-01T00:00:20Z",`+
		`"asked":2,"askedAt":"1970-01-01T00:00:15Z","answer":"in progress"}],"asking":true,"next":"n"}`, answer)
	status, answer, _ = askTasks(t, g, "GET", "shop/tasks", "cursor=x", "")
	require.Equal(t, 400, status, answer)

	status, answer, _ = askTasks(t, g, "GET", samplePath, "", "")
	require.Equal(t, 200, status)
	require.JSONEq(t, first, answer)
	status, answer, logged := askTasks(t, g, "DELETE", samplePath, "", "")
	require.Equal(t, 204, status, answer)
	require.Equal(t, []string{"untrack a/b ü"}, g.got)
	require.Equal(t, "a/b ü", logged["task_id"])

	for _, method := range []string{"GET", "DELETE"} {
		for _, id := range []string{"t3", "%FF", strings.Repeat("x", inbox.MaxTaskID+1)} {
			status, answer, logged = askTasks(t, g, method, "shop/tasks/"+id, "", "")
			require.Equal(t, 404, status, answer)
			require.Nil(t, logged)
		}
	}
	require.Len(t, g.got, 1)
}

func TestTasksOfAFailingInbox(t *testing.T) {
	g := &register{asking: true, err: inbox.ErrFull}
	for _, c := range []struct{ method, path, body string }{
		{"GET", "shop/tasks", ""},
		{"POST", "shop/tasks", `{"tasks":["a"]}`},
		{"GET", samplePath, ""},
		{"DELETE", samplePath, ""},
	} {
		status, answer, logged := askTasks(t, g, c.method, c.path, "", c.body)
		require.Equal(t, 503, status, c)
		require.Equal(t, "inbox is full", answer, c)
		require.Nil(t, logged, c)
	}
}

type noTracker struct{ control.Gateway }

func (noTracker) Inbox() inbox.Inbox { return noInbox{} }

func TestTasksOfAnInboxThatCannotTrack(t *testing.T) {
	for _, c := range []struct{ method, path string }{{"GET", "shop/tasks"}, {"GET", samplePath}, {"DELETE", samplePath}} {
		status, answer, _ := askTasks(t, noTracker{}, c.method, c.path, "", "")
		require.Equal(t, 501, status, c)
		require.Equal(t, control.ErrNotTracking.Error(), answer, c)
	}
}

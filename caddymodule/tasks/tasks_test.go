package tasks

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/metrics"
)

// count returns a counter of learnt tasks. It lives on in all configs of the process.
func count(t *testing.T, result metrics.LearntResult) (value int) {
	t.Helper()
	registry := prometheus.NewRegistry()
	require.NoError(t, metrics.Register(registry))
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if strings.HasSuffix(family.GetName(), "tasks_learnt_total") && metric.GetLabel()[1].GetValue() == string(result) {
				value += int(metric.GetCounter().GetValue())
			}
		}
	}
	return value
}

// ask submits a task, and returns the answer.
func (s *stand) ask() string {
	s.t.Helper()
	resp, err := s.post(s.t.Context(), false, strings.NewReader("{}"))
	require.NoError(s.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	require.Equal(s.t, 200, resp.StatusCode)
	return string(body)
}

func TestATaskThatCannotBeStored(t *testing.T) {
	for name, track := range map[string]func(context.Context) error{
		"the inbox fails": func(context.Context) error { return inbox.ErrFull },
		"it is slow": func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			change(t, &storeTimeout, 20*time.Millisecond)
			s := newStand(t)
			s.gateway.track = track
			body := documented("t1")
			s.answers(answerJSON(body))
			require.Equal(t, body, s.ask())
			lines := s.lines("task not stored")
			require.Len(t, lines, 1)
			require.Equal(t, "error", lines[0]["level"])
			require.Equal(t, []any{"t1"}, lines[0]["task_ids"])
			require.Equal(t, "default", lines[0]["handler"])
			require.Equal(t, 1, count(t, metrics.LearntFailed))
			require.Zero(t, count(t, metrics.LearntStored))
		})
	}
}

func TestTasksAreCounted(t *testing.T) {
	s := newStand(t)
	s.answers(answerJSON(documented("t1")))
	s.ask()
	s.ask()
	s.answers(answerJSON("{"))
	s.ask()
	require.Equal(t, 2, count(t, metrics.LearntStored))
	require.Equal(t, 1, count(t, metrics.LearntUnread))
}

// An id that cannot be stored keeps no other from being.
func TestHostileIDs(t *testing.T) {
	s := newStand(t)
	long := strings.Repeat("x", inbox.MaxTaskID)
	body := `{"code":"000","data":[{"taskId":"` + long + `x"},{"taskId":"` + long + `"},{"taskId":"\u0000\n\u202e"}]}`
	s.answers(answerJSON(body))
	require.Equal(t, body, s.ask())
	require.Equal(t, []string{long, "\x00\n\u202e"}, s.gateway.tracked())
	require.Equal(t, 1, count(t, metrics.LearntInvalid))
	lines := s.lines("task not learnt")
	require.Len(t, lines, 1)
	require.Less(t, len(lines[0]["task_id"].(string)), 300)
}

func TestManyTasksInOneAnswer(t *testing.T) {
	s := newStand(t)
	var items, ids []string
	for i := range inbox.MaxTrack + 500 {
		ids = append(ids, fmt.Sprintf("t%d", i))
		items = append(items, `{"taskId":"`+ids[i]+`"}`)
	}
	s.answers(answerJSON(`{"code":"000","data":[` + strings.Join(items, ",") + `]}`))
	s.ask()
	require.Equal(t, ids, s.gateway.tracked())
}

// A handler that asks Fotor for nothing learns nothing, and says so once.
func TestAHandlerWithoutAPI(t *testing.T) {
	s := newStand(t)
	s.gateway.notAsking = true
	s.answers(answerJSON(documented("t1")))
	for range 3 {
		require.Equal(t, documented("t1"), s.ask())
	}
	require.Empty(t, s.gateway.tracked())
	lines := s.lines("tasks are not learnt")
	require.Len(t, lines, 1)
	require.Contains(t, lines[0]["error"], "expected a block fotor_api")
}

// An exchange ends as it began, whatever a reload does meanwhile: here the config after has
// neither fotor_tasks nor the handler.
func TestAnExchangeOutlivesItsConfig(t *testing.T) {
	s := newStand(t)
	asked, loaded := make(chan bool), make(chan bool)
	s.answers(func(w http.ResponseWriter, r *http.Request) {
		asked <- true
		<-loaded
		answerJSON(documented("t1"))(w, r)
	})
	answer := make(chan string, 1)
	go func() { answer <- s.ask() }()
	receive(t, asked)
	s.load("")
	running.set(nil)
	close(loaded)
	require.Equal(t, documented("t1"), receive(t, answer))
	require.Equal(t, []string{"t1"}, s.gateway.tracked())
}

// If a reload gives the handler another inbox, callbacks come there: so do tasks.
func TestTheNewestInboxIsTaken(t *testing.T) {
	s := newStand(t)
	newest := &fakeGateway{got: make(chan string, 1)}
	s.answers(func(w http.ResponseWriter, r *http.Request) {
		running.set(newest)
		answerJSON(documented("t1"))(w, r)
	})
	s.ask()
	require.Equal(t, []string{"t1"}, newest.tracked())
	require.Empty(t, s.gateway.tracked())
}

// The HTTP server may take requests before the handlers run.
func TestAnExchangeThatBeginsEarly(t *testing.T) {
	s := newStand(t)
	running.set(nil)
	s.answers(func(w http.ResponseWriter, r *http.Request) {
		running.set(s.gateway)
		answerJSON(documented("t1"))(w, r)
	})
	s.ask()
	require.Equal(t, []string{"t1"}, s.gateway.tracked())

	running.set(nil)
	s.answers(answerJSON(documented("t2")))
	require.Equal(t, documented("t2"), s.ask())
	lines := s.lines("task not stored")
	require.Len(t, lines, 1)
	require.Equal(t, control.ErrNoHandler.Error(), lines[0]["error"])
}

func TestLoad(t *testing.T) {
	s := newStand(t)
	loads := 0
	// After a load that fails once its sockets are open, Caddy cannot open them again: it
	// would copy those that it has closed. So each load has its own.
	load := func(config string) error {
		loads++
		return caddy.Load([]byte(strings.ReplaceAll(config, s.folder+"/", fmt.Sprintf("%s/%d", s.folder, loads))), true)
	}
	for handler, want := range map[string]string{
		`{"handler":"fotor_tasks","name":"default"},`: "",
		`{"handler":"fotor_tasks","name":"shop"},`:    `fotor_tasks: the config has no fotor_webhook handler with the name "shop": expected of default`,
		`{"handler":"fotor_tasks","name":"a/b"},`:     `fotor_tasks: name "a/b": expected 1 to 64 letters, digits, '_' or '-'`,
		`{"handler":"fotor_tasks","names":"x"},`:      `unknown field "names"`,
	} {
		if err := load(s.config(handler)); want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, want)
		}
	}
	err := load(strings.Replace(s.config(`{"handler":"fotor_tasks"},`), `["default"]`, `[]`, 1))
	require.ErrorContains(t, err, `fotor_tasks: the config has no fotor_webhook handler: expected one with the name "default"`)
	err = load(strings.Replace(s.config(`{"handler":"fotor_tasks"},`), `["default"]`, `["default"],"asking":["other"]`, 1))
	require.ErrorContains(t, err, `fotor_tasks: the fotor_webhook handler "default" has no fotor_api, so Fotor would never be asked for the tasks`)
}

func TestCaddyfile(t *testing.T) {
	for line, want := range map[string]string{
		"fotor_tasks":                `{"handler":"fotor_tasks"}`,
		"fotor_tasks shop":           `{"handler":"fotor_tasks","name":"shop"}`,
		"fotor_tasks /v1/* shop":     `{"handler":"fotor_tasks","name":"shop"}`,
		"fotor_tasks a b":            "fotor_tasks has 2 arguments: expected the name of one fotor_webhook handler, or nothing",
		`fotor_tasks ""`:             "fotor_tasks: the name is empty: expected that of a fotor_webhook handler, or nothing",
		"fotor_tasks {\n\t\tname\n}": "fotor_tasks: unexpected block: expected the name of a fotor_webhook handler, or nothing",
	} {
		t.Run(line, func(t *testing.T) {
			config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(
				[]byte(":80 {\n\trespond ok\n\treverse_proxy 127.0.0.1:1\n\t"+line+"\n}\n"), map[string]any{"filename": "Caddyfile"})
			if !strings.HasPrefix(want, "{") {
				require.ErrorContains(t, err, want)
				return
			}
			require.NoError(t, err)
			require.Empty(t, warnings)
			require.Contains(t, string(config), want)
			own := strings.Index(string(config), want)
			require.Greater(t, own, strings.Index(string(config), "static_response"))
			require.Less(t, own, strings.Index(string(config), "reverse_proxy"), "before what it stands before, in any order of lines")
		})
	}
	require.Error(t, new(Handler).UnmarshalCaddyfile(caddyfile.NewTestDispenser("fotor_tasks a b")))
}

// Cleanup comes after a Provision that failed, too.
func TestCleanupOfWhatWasNotProvisioned(t *testing.T) {
	require.NoError(t, new(Handler).Cleanup())
}

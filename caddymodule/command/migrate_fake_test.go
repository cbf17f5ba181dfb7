package command

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
	_ "github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/sqlite"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func init() { caddy.RegisterModule(new(memoryModule)) }

// memoryModule is an inbox module whose inboxes are in memory, by name.
type memoryModule struct {
	Box string `json:"box"`
}

var memoryInboxes sync.Map // of *memoryInbox by box

func (*memoryModule) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.fotor_webhook.inbox.memory", New: func() caddy.Module { return new(memoryModule) }}
}

func (m *memoryModule) Key(string) string { return "memory:" + m.Box }

func (m *memoryModule) Open(_ context.Context, _ string, p inbox.Policy, log *zap.Logger) (inbox.Inbox, error) {
	found, ok := memoryInboxes.Load(m.Box)
	if !ok {
		return nil, fmt.Errorf("no server for %s", m.Box)
	}
	in := found.(*memoryInbox)
	in.policy = p
	if in.warn != "" {
		log.Warn(in.warn)
	}
	if in.tasks != nil {
		return struct {
			*memoryInbox
			*memoryTasks
		}{in, in.tasks}, nil
	}
	return in, nil
}

// memoryTasks are the tracked tasks of a memoryInbox.
type memoryTasks struct {
	inbox.Tracker // other methods are never called

	tasks []inbox.Task
	ended map[string]bool
}

func (m *memoryTasks) Track(_ context.Context, tasks ...inbox.Task) (added int, err error) {
	for _, task := range tasks {
		known := slices.ContainsFunc(m.tasks, func(t inbox.Task) bool { return t.ID == task.ID })
		if !known && !m.ended[task.ID] {
			m.tasks = append(m.tasks, task)
			added++
		}
	}
	return added, nil
}

func (*memoryModule) Apply(inbox.Inbox, inbox.Policy) {}

// memoryInbox is an inbox to migrate to.
type memoryInbox struct {
	inbox.Inbox // other methods are never called

	mu       sync.Mutex
	policy   inbox.Policy
	ids      []string // in order of arrival
	records  map[string]*inbox.Record
	suspects []*inbox.Suspect      // the oldest first
	holds    map[string]inbox.Hold // by destination
	tasks    *memoryTasks          // nil if it tracks none
	closed   int
	warn     string

	beforeImport func(id string) error // called by Import
	lose         func(*inbox.Record) bool
}

// newMemory makes an inbox that a config can name.
func newMemory(t *testing.T) *memoryInbox {
	t.Helper()
	in := &memoryInbox{records: map[string]*inbox.Record{}, holds: map[string]inbox.Hold{}}
	memoryInboxes.Store(t.Name(), in)
	t.Cleanup(func() { memoryInboxes.Delete(t.Name()) })
	return in
}

func (m *memoryInbox) Import(_ context.Context, r *inbox.Record) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.beforeImport != nil {
		if err := m.beforeImport(r.Event.ID); err != nil {
			return false, err
		}
	}
	if m.records[r.Event.ID] != nil {
		return true, nil
	}
	if m.lose != nil && m.lose(r) {
		return false, nil
	}
	m.ids = append(m.ids, r.Event.ID)
	m.records[r.Event.ID] = r
	return false, nil
}

func (m *memoryInbox) Get(_ context.Context, id string) (*inbox.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records[id] == nil {
		return nil, inbox.ErrNotFound
	}
	return m.records[id], nil
}

func (m *memoryInbox) Stats(context.Context) (s inbox.Stats, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.records {
		s.Events[r.State]++
	}
	s.Destinations = []inbox.DestinationStats{{Name: inbox.DefaultDestination, Deliveries: s.Events}}
	return s, nil
}

// memoryQueue is the queue of a memoryInbox. It leases nothing.
type memoryQueue struct {
	inbox.Leaser // never called
	inbox        *memoryInbox
	name         string
}

func (m *memoryInbox) Queue(_ context.Context, destination string) (inbox.Queue, error) {
	return memoryQueue{inbox: m, name: destination}, nil
}

func (q memoryQueue) Hold(context.Context) (inbox.Hold, error) { return q.inbox.holds[q.name], nil }

func (q memoryQueue) SetHold(_ context.Context, h inbox.Hold) error {
	q.inbox.holds[q.name] = h
	return nil
}

func (m *memoryInbox) Quarantine(_ context.Context, s *inbox.Suspect) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.ID = int64(len(m.suspects)) + 100
	m.suspects = append(m.suspects, s)
	m.suspects = m.suspects[max(0, len(m.suspects)-m.policy.Quarantine):]
	return nil
}

func (m *memoryInbox) Suspects(_ context.Context, p inbox.Page) (page []*inbox.Suspect, next string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := 0
	if p.Cursor != "" {
		_, _ = fmt.Sscan(p.Cursor, &first)
	}
	all := slices.Clone(m.suspects)
	slices.Reverse(all)
	if first+1 < len(all) { // a page has one
		return all[first : first+1], fmt.Sprint(first + 1), nil
	}
	return all[first:], "", nil
}

func (m *memoryInbox) Close() error {
	m.closed++
	return nil
}

// sqliteModule returns the inbox module for an SQLite file.
func sqliteModule(t *testing.T, path string) caddymodule.Inbox {
	t.Helper()
	info, err := caddy.GetModule("http.fotor_webhook.inbox.sqlite")
	require.NoError(t, err)
	module := info.New()
	require.NoError(t, json.Unmarshal([]byte(fmt.Sprintf(`{"path":%q,"max_size":%d}`, path, 1<<30)), module))
	return module.(caddymodule.Inbox)
}

func openSQLite(t *testing.T, path string) inbox.Inbox {
	t.Helper()
	in, err := sqliteModule(t, path).Open(t.Context(), "default", inbox.Policy{Keep: time.Hour, Quarantine: 1000}, zap.NewNop())
	require.NoError(t, err)
	return in
}

// oldFile makes an SQLite inbox and closes it. It has each events in every state, and one
// more that has not been attempted.
func oldFile(t *testing.T, each int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "old.db")
	in := openSQLite(t, path)
	var outcomes []inbox.Outcome
	put := func(state string, n int, status inbox.Status) *inbox.Event {
		task := fmt.Sprint(state, " ", n)
		e := &inbox.Event{
			ID: inbox.NewID(task, []byte(status.String())), TaskID: task, Type: "avatar", Status: status,
			ReceivedAt: testNow.Add(time.Duration(n) * time.Second), Body: []byte(`{"n":` + fmt.Sprint(n) + `}`),
		}
		if n%2 == 0 {
			e.TraceParent, e.TraceState = "00-"+fmt.Sprintf("%032d", n+1)+"-0000000000000001-01", "a=b"
		}
		duplicateOf, err := in.Put(t.Context(), e)
		require.NoError(t, err)
		require.Empty(t, duplicateOf)
		return e
	}
	for n := range each {
		for _, state := range []string{"delivered", "dead", "retried"} {
			put(state, n, inbox.Completed)
		}
	}
	queue, err := in.Queue(t.Context(), inbox.DefaultDestination)
	require.NoError(t, err)
	for len(outcomes) < 3*each {
		leases, err := queue.Lease(t.Context(), 100)
		require.NoError(t, err)
		for _, l := range leases {
			o := inbox.Outcome{Lease: l, Attempt: inbox.Attempt{At: testNow, Duration: time.Second, Status: 204}}
			switch l.Event.TaskID[:3] {
			case "del":
				o.Verdict = inbox.Deliver
			case "dea":
				o.Verdict, o.Attempt.Status, o.Attempt.Reason = inbox.GiveUp, 410, "gone"
			default:
				o.Verdict, o.Due = inbox.Retry, time.Now().Add(time.Hour)
				o.Attempt.Status, o.Attempt.Reason = 503, "HTTP 503"
			}
			outcomes = append(outcomes, o)
		}
	}
	require.NoError(t, queue.Settle(t.Context(), outcomes...))
	for n := range each {
		put("superseded", n, inbox.InProgress)
		put("superseded", n, inbox.Completed)
	}
	put("fresh", 0, inbox.Completed)
	for n := range 4 {
		require.NoError(t, in.Quarantine(t.Context(), &inbox.Suspect{
			ReceivedAt: testNow, SourceIP: "192.0.2.1", Status: 422, Problems: []byte(`[]`), Body: fmt.Appendf(nil, "%d", n%3),
		}))
	}
	require.NoError(t, in.Close())
	return path
}

// setHold sets a hold of the default destination.
func setHold(t *testing.T, in inbox.Inbox, h inbox.Hold) {
	t.Helper()
	queue, err := in.Queue(t.Context(), inbox.DefaultDestination)
	require.NoError(t, err)
	require.NoError(t, queue.SetHold(t.Context(), h))
}

// newConfig writes a config with the handler default, which stores in memory, and more.
func newConfig(t *testing.T, more ...string) string {
	t.Helper()
	handlers := fmt.Sprintf(`{"handler":"fotor_webhook","inbox":{"module":"memory","box":%q}}`, t.Name())
	for _, m := range more {
		handlers += "," + m
	}
	config := `{"apps":{"http":{"servers":{"a":{"routes":[{"handle":[{"handler":"subroute","routes":[{"handle":[` + handlers + `]}]}]}]}}}}}`
	path := filepath.Join(t.TempDir(), "caddy.json")
	require.NoError(t, os.WriteFile(path, []byte(config), 0o600))
	return path
}

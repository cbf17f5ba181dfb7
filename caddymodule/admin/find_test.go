package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/openapi"
)

// heap is an inbox with events, newest first.
type heap struct {
	inbox.Inbox
	events []*inbox.Record
	since  time.Time
	err    error
}

// List has two rows a page.
func (h *heap) List(_ context.Context, f inbox.Filter, p inbox.Page) (some []*inbox.Record, next string, err error) {
	at := 0
	if p.Cursor != "" {
		_, err = fmt.Sscan(p.Cursor, &at)
	}
	for i, r := range h.events[at:] {
		if r.Event.TaskID != f.TaskID {
			continue
		}
		if len(some) == min(p.Limit, 2) {
			return some, fmt.Sprint(at + i), cmp.Or(err, h.err)
		}
		some = append(some, r)
	}
	return some, "", cmp.Or(err, h.err)
}

func (h *heap) Get(_ context.Context, id string) (*inbox.Record, error) {
	for _, r := range h.events {
		if r.Event.ID == id {
			return r, h.err
		}
	}
	return nil, inbox.ErrNotFound
}

// searched is a heap that finds events by the beginning of their ids.
type searched struct{ *heap }

func (h searched) Find(_ context.Context, p inbox.Prefix, limit int) (f inbox.Found, err error) {
	for _, r := range h.events {
		if p.Matches(r.Event.ID) {
			f.Records = append(f.Records, r)
		}
	}
	f.More, f.Since = len(f.Records) > limit, h.since
	f.Records = f.Records[:min(len(f.Records), limit)]
	return f, h.err
}

type heapGateway struct {
	control.Gateway
	in inbox.Inbox
}

func (g heapGateway) Inbox() inbox.Inbox { return g.in }

// newHeap makes an inbox with as many events of each task.
func newHeap(tasks ...int) *heap {
	h := new(heap)
	for i, n := range tasks {
		for j := range n {
			e := &inbox.Event{TaskID: fmt.Sprint("task ", i), Type: "avatar", ReceivedAt: time.Unix(int64(100*i+j), 0)}
			e.ID = inbox.NewID(e.TaskID, fmt.Append(nil, j))
			h.events = append(h.events, &inbox.Record{Event: e})
		}
	}
	slices.Reverse(h.events)
	return h
}

func ask(t *testing.T, in inbox.Inbox, id string) (control.Found, error) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.URL.RawQuery = "id=" + id
	c := &call{API: new(API), w: w, r: r, gateway: heapGateway{in: in}}
	if err := c.find(); err != nil {
		return control.Found{}, err
	}
	openapi.Load(t).Check(t, http.MethodGet, control.Root+"default/find", w.Code, w.Header().Get("Content-Type"), w.Body.Bytes())
	var found control.Found
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &found))
	return found, nil
}

func TestFind(t *testing.T) {
	h := newHeap(1, 3, 25)
	one, three, many := h.events[28].Event, h.events[25].Event, h.events[0].Event
	for _, c := range []struct {
		name, id string
		events   int
		more     bool
		task     string
		newest   *inbox.Event
	}{
		{name: "a beginning", id: one.ID[:8], events: 1, newest: one},
		{name: "upper case", id: strings.ToUpper(one.ID[:8]), events: 1, newest: one},
		{name: "a short id", id: inbox.ShortID(three.ID), events: 1, newest: three},
		{name: "a whole id", id: three.ID, events: 1, newest: three},
		{name: "the digits of a task", id: three.ID[:16], events: 3, newest: three},
		{name: "a task", id: "task%201", events: 3, task: "task 1", newest: three},
		{name: "a task with many events", id: "task%202", events: control.FoundMax, more: true, task: "task 2", newest: many},
		{name: "digits of many events", id: many.ID[:8], events: control.FoundMax, more: true, newest: many},
		{name: "none", id: "0123"},
		{name: "no id and no task", id: "x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			found, err := ask(t, searched{h}, c.id)
			require.NoError(t, err)
			require.Len(t, found.Events, c.events)
			require.Equal(t, c.more, found.More)
			require.Equal(t, c.task, found.TaskID)
			require.Nil(t, found.Since)
			if c.newest != nil {
				require.Equal(t, c.newest.ID, found.Events[0].ID)
			}
		})
	}
}

// An event may be found both ways: it counts once.
func TestFindByTaskAndByID(t *testing.T) {
	h := newHeap(2)
	for _, r := range h.events {
		r.Event.TaskID = r.Event.ID[:16]
	}
	h.since = time.Unix(50, 0)
	found, err := ask(t, searched{h}, h.events[0].Event.ID[:16])
	require.NoError(t, err)
	require.Len(t, found.Events, 2)
	require.Equal(t, h.events[0].Event.TaskID, found.TaskID)
	require.Equal(t, h.since.UTC(), *found.Since)
}

func TestFindWithoutTheAbility(t *testing.T) {
	h := newHeap(1, 3)
	found, err := ask(t, h, h.events[0].Event.ID)
	require.NoError(t, err)
	require.Len(t, found.Events, 1)
	found, err = ask(t, h, "0123"+h.events[0].Event.ID[4:])
	require.NoError(t, err)
	require.Empty(t, found.Events)
	_, err = ask(t, h, h.events[0].Event.ID[:47])
	require.ErrorContains(t, err, "whole ids only: expected 48 hexadecimal digits")
	found, err = ask(t, h, "task%201")
	require.NoError(t, err)
	require.Len(t, found.Events, 3)
}

func TestFindFails(t *testing.T) {
	h := newHeap(1)
	for query, want := range map[string]string{"": "it is missing", "id=": "it is empty", "id=d43f&task=x": "unknown here: expected id"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?"+query, nil)
		require.ErrorContains(t, (&call{API: new(API), w: httptest.NewRecorder(), r: r, gateway: heapGateway{in: h}}).find(), want)
	}
	h.err = errors.New("the disk is gone")
	for _, in := range []inbox.Inbox{h, searched{h}} {
		for _, id := range []string{h.events[0].Event.ID, "x"} {
			_, err := ask(t, in, id)
			require.ErrorContains(t, err, "the disk is gone")
		}
	}
}

package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/match"
)

// learn puts what Fotor's API says of a task.
func (c *crossing) learn(members string) (e *inbox.Event, duplicate bool, err error) {
	c.t.Helper()
	parsed, err := callback.Parse([]byte(`{"taskId":"task","type":"avatar",`+members+`}`), nil)
	require.NoError(c.t, err)
	g, err := c.ref.Hold(c.t.Context())
	require.NoError(c.t, err)
	defer func() { require.NoError(c.t, g.Drop()) }()
	e = parsed.Event(callback.Arrival{At: time.Now(), Origin: inbox.FromAPI, Compared: true})
	duplicate, err = c.ref.Put(c.t.Context(), g, e, netip.Addr{}, nil)
	return e, duplicate, err
}

// arriving returns how many callbacks are being stored.
func (c *crossing) arriving() int {
	a := &c.ref.journal.arrivals
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.byKey)
}

// comparing makes the depot compare outcomes, as an inbox does. before is called before
// each comparison, with its number, and may put others there first.
func (c *crossing) comparing(before func(n int, told *[]inbox.Told)) {
	var told []inbox.Told
	calls := 0
	c.depot.compare = func(e *inbox.Event) (string, error) {
		calls++
		before(calls, &told)
		duplicateOf, revision := e.CompareOutcome(told)
		if duplicateOf == "" && revision != e.Revision {
			return "", &inbox.RevisionError{Revision: revision}
		}
		if duplicateOf == "" {
			told = append(told, e.Told())
		}
		return duplicateOf, nil
	}
}

func TestAnotherOutcomeIsStoredWithItsRevision(t *testing.T) {
	c := newCrossing(t)
	later := Destination{Name: "later"}
	var err error
	later.Match, err = match.Compile(&match.Rules{Expressions: []string{"event.revision > 1 && event.origin == 'api'"}})
	require.NoError(t, err)
	c.load("one", to("all"), later)
	c.comparing(func(int, *[]inbox.Told) {})

	first, duplicate, err := c.learn(`"status":2`)
	require.NoError(t, err)
	assert.False(t, duplicate)
	assert.Equal(t, []string{"all"}, first.Destinations)
	assert.Zero(t, c.logs.FilterMessageSnippet("another outcome").Len())

	second, duplicate, err := c.learn(`"status":1,"resultUrl":"https://h/a"`)
	require.NoError(t, err)
	assert.False(t, duplicate)
	assert.Equal(t, 2, second.Revision)
	assert.True(t, strings.HasSuffix(string(second.Body), `,"revision":2}`), "%s", second.Body)
	assert.Equal(t, []string{"all", "later"}, second.Destinations, "where it goes depends on the revision")
	logged := c.logs.FilterMessageSnippet("another outcome").All()
	require.Len(t, logged, 1)
	assert.EqualValues(t, 2, logged[0].ContextMap()["revision"])
	assert.Equal(t, second.ID, logged[0].ContextMap()["event_id"])

	again, duplicate, err := c.learn(`"status":2,"undocumented":1`)
	require.NoError(t, err)
	assert.True(t, duplicate)
	assert.Equal(t, first.ID, again.ID, "it has the id of the one that is stored")
	assert.Zero(t, c.arriving())
}

// What decides of the first try does not decide of the next.
func TestARevisionGoesToTheDefaultDestination(t *testing.T) {
	c := newCrossing(t)
	only := func(name, expression string) Destination {
		m, err := match.Compile(&match.Rules{Expressions: []string{expression}})
		require.NoError(t, err)
		return Destination{Name: name, Match: m}
	}
	c.load("one", only("default", "event.revision > 1"), only("first", "event.revision == 1"))
	c.comparing(func(int, *[]inbox.Told) {})
	for i, want := range [][]string{{"first"}, nil} {
		e, _, err := c.learn(fmt.Sprintf(`"status":%d`, i+1))
		require.NoError(t, err)
		assert.Equal(t, i+1, e.Revision)
		assert.Equal(t, want, e.Destinations)
	}
}

// Others come first, again and again, but not for ever.
func TestARevisionIsTriedAgain(t *testing.T) {
	c := newCrossing(t)
	c.load("one", to("default"))
	c.comparing(func(n int, told *[]inbox.Told) {
		if n <= 20 {
			*told = append(*told, inbox.Told{Outcome: inbox.OutcomeKey{byte(n)}, Revision: n})
		}
	})
	e, _, err := c.learn(`"status":1`)
	require.NoError(t, err)
	assert.Equal(t, 21, e.Revision)

	c.comparing(func(n int, told *[]inbox.Told) {
		*told = []inbox.Told{{Outcome: inbox.OutcomeKey{1}, Revision: 10 * n}}
	})
	_, _, err = c.learn(`"status":2`)
	var wrong *inbox.RevisionError
	require.ErrorAs(t, err, &wrong)
	assert.Zero(t, c.arriving())

	storageAway := errors.New("away")
	c.depot.compare = func(*inbox.Event) (string, error) { return "", storageAway }
	_, _, err = c.learn(`"status":2`)
	require.ErrorIs(t, err, storageAway)
}

func TestANoticeSaysThatFotorWasAsked(t *testing.T) {
	c := newCrossing(t)
	c.load("one", to("default"))
	e, _, err := c.learn(`"status":1`)
	require.NoError(t, err)
	var a arrivals
	a.begin(e, netip.Addr{})
	var n control.Notice
	a.accepted(e, func(published control.Notice) { n = published })
	assert.Equal(t, "api", n.Origin)
	assert.Empty(t, n.SourceIP)
	assert.Equal(t, "api", eventData(&n)["origin"])
	assert.NotContains(t, eventData(&n), "source_ip")
}

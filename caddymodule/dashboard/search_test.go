package dashboard

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// searching searches for a text among events that are found by their ids.
func searching(t *testing.T, text string, found inbox.Found) *httptest.ResponseRecorder {
	t.Helper()
	g := newFakeGateway(2)
	g.found = found
	b := newBench(t, fakeProvider{"shop": g})
	return b.serve(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events?q="+url.QueryEscape(text), nil))
}

func TestASearchLeadsToTheOnlyEventOrTask(t *testing.T) {
	one := inbox.Found{Records: []*inbox.Record{deadRecord(anEvent, 500, "")}}
	old := inbox.Found{Records: one.Records, Since: time.Unix(1, 0)}
	for _, c := range []struct {
		text  string
		found inbox.Found
		to    string
	}{
		{"628b49d9", one, "./event?id=" + anEvent},
		{"628B49D9-0a72", one, "./event?id=" + anEvent},
		{"628b49d9-0a72", old, "./event?id=" + anEvent},
		{anEvent, one, "./event?id=" + anEvent},
		{"e00001", inbox.Found{}, "./event?id=e00001"},
	} {
		w := searching(t, c.text, c.found)
		require.Equal(t, http.StatusSeeOther, w.Code, c.text)
		require.Equal(t, c.to, w.Header().Get("Location"), c.text)
	}
}

func TestASearchListsWhatFits(t *testing.T) {
	several := inbox.Found{Records: []*inbox.Record{deadRecord(anEvent, 500, ""), deadRecord("628b49d9ffff", 500, "")}, More: true}
	body := searching(t, "628b", several).Body.String()
	require.Contains(t, body, "More than 2 events with an id, or a task, that begins with <code>628b</code>.")
	require.Contains(t, body, anEvent)
	require.NotContains(t, body, "data-rows", "what arrives does not come among them")
	require.NotContains(t, body, "data-stream", "it is not searched for again and again")

	// fewer digits than those of one task, and not all were compared
	body = searching(t, "628b", inbox.Found{Records: several.Records[:1], Since: time.Unix(1, 0)}).Body.String()
	require.Contains(t, body, "1 event with")
	require.Contains(t, body, "give at least 12 digits to look further")
}

func TestASearchThatFindsNothingSaysWhatToTry(t *testing.T) {
	for _, text := range []string{"628b", "no such task", "<b>", "\u202e"} {
		w := searching(t, text, inbox.Found{})
		require.Equal(t, http.StatusOK, w.Code)
		require.Contains(t, w.Body.String(), "Nothing has that id")
		require.NotContains(t, w.Body.String(), "<b>")
	}
	w := searching(t, "628b", inbox.Found{Since: time.Unix(1, 0)})
	require.Contains(t, w.Body.String(), "were compared only if they are dead")
}

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/openapi"
)

// apiReply is an answer of the admin API.
type apiReply struct {
	Status int
	Header http.Header
	Body   []byte
}

// API makes a request to the admin API, and checks the answer against the description. The
// path is relative to /fotor_webhook/. Headers are pairs of name and value.
func (g *gateway) API(method, path, body string, headers ...string) apiReply {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), method, g.apiURL(path), strings.NewReader(body))
	require.NoError(g.t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	response, err := roundTrip(client, r)
	require.NoError(g.t, err)
	defer response.Body.Close()
	answer := apiReply{Status: response.StatusCode, Header: response.Header}
	answer.Body, err = io.ReadAll(response.Body)
	require.NoError(g.t, err)
	if method != http.MethodHead && answer.Header.Get("Location") == "" { // not a redirect, by which Caddy cleans paths
		described(g.t).Check(g.t, method, "/fotor_webhook/"+path, answer.Status, answer.Header.Get("Content-Type"), answer.Body)
	}
	return answer
}

var document *openapi.Doc

// described returns the description that every answer is checked against.
func described(t *testing.T) *openapi.Doc {
	t.Helper()
	if document == nil {
		document = openapi.Load(t)
	}
	return document
}

func (g *gateway) apiURL(path string) string {
	return fmt.Sprintf("http://127.0.0.1:%d/fotor_webhook/%s", g.Admin, path)
}

// ask makes a request that must be answered 200, and decodes the answer.
func ask[T any](g *gateway, method, path, body string) (answer T) {
	g.t.Helper()
	reply := g.API(method, path, body)
	require.Equal(g.t, http.StatusOK, reply.Status, "%s %s: %s", method, path, reply.Body)
	require.NoError(g.t, json.Unmarshal(reply.Body, &answer), "%s", reply.Body)
	return answer
}

// list returns the events that match the query, from all pages.
func (g *gateway) list(query url.Values) (events []control.Event) {
	g.t.Helper()
	for {
		page := ask[control.Events](g, http.MethodGet, "default/events?"+query.Encode(), "")
		events = append(events, page.Events...)
		if page.Next == "" {
			return events
		}
		query.Set("cursor", page.Next)
	}
}

func eventIDs(events []control.Event) []string {
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	return ids
}

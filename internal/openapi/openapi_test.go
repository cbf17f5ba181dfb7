package openapi

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// small is a document with an example of everything that Check distinguishes.
const small = `
openapi: 3.1.1
paths:
  /a/:
    get: {responses: {'200': {content: {application/json: {schema: {$ref: '#/components/schemas/A'}}}}}}
  /a/{id}/b:
    delete: {responses: {'204': {description: gone}, '404': {$ref: '#/components/responses/NotFound'}}}
  /a/{id}/{what}:
    get: {responses: {'200': {content: {text/plain: {}}}}}
  /a/x/b:
    post:
      responses:
        '200':
          content:
            application/json: {schema: {$ref: '#/components/schemas/A'}}
            application/x-ndjson: {x-itemSchema: {$ref: '#/components/schemas/A'}}
            text/event-stream: {x-itemSchema: {$ref: '#/components/schemas/Event'}}
  /broken:
    get:
      responses:
        '200': {content: {application/json: {}}}
        '201': {content: {application/json: {schema: {$ref: '#/components/schemas/Nowhere'}}}}
components:
  responses:
    NotFound: {content: {application/json: {schema: {$ref: '#/components/schemas/Error'}}}}
    MethodNotAllowed: {content: {application/json: {schema: {$ref: '#/components/schemas/Error'}}}}
  schemas:
    A: {type: object, additionalProperties: false, required: [n], properties: {n: {$ref: '#/components/schemas/N'}, at: {type: string, format: date-time}}}
    N: {type: integer}
    Event: {type: object, required: [kind]}
    Error: {type: object, required: [error]}
    NoticeID: {type: string, pattern: '^[a-z]-[0-9]+$'}
`

func TestCheck(t *testing.T) {
	doc, err := parse([]byte(small))
	require.NoError(t, err)
	const get, post = http.MethodGet, http.MethodPost
	event := "event: a\nid: e-1\ndata: {\"kind\":\"a\"}\n\n"
	for name, c := range map[string]struct {
		method, path string
		status       int
		media, body  string
		wrong        string // part of the error; "" for none
	}{
		"right":                  {get, "/a/", 200, "application/json", `{"n":1}`, ""},
		"with a query":           {get, "/a/?x=/y", 200, "application/json", `{"n":1}`, ""},
		"with a charset":         {get, "/a/", 200, "application/json; charset=utf-8", `{"n":1}`, ""},
		"unknown path":           {get, "/b", 200, "application/json", `{"n":1}`, "the path is not described"},
		"empty segment":          {"DELETE", "/a//b", 204, "", "", "the path is not described"},
		"longer path":            {get, "/a/1/b/c", 200, "application/json", `{"n":1}`, "the path is not described"},
		"404 at unknown path":    {get, "/b", 404, "application/json", `{"error":"x"}`, ""},
		"404 without error":      {get, "/b", 404, "application/json", `{"n":1}`, "error"},
		"unknown method":         {post, "/a/", 200, "application/json", `{"n":1}`, "does not list the method"},
		"not a method":           {"PARAMETERS", "/a/", 200, "application/json", `{"n":1}`, "does not list the method"},
		"405 to unknown method":  {post, "/a/", 405, "application/json", `{"error":"x"}`, ""},
		"405 without error":      {post, "/a/", 405, "application/json", `{}`, "error"},
		"405 to a known method":  {get, "/a/", 405, "application/json", `{"error":"x"}`, "the status is not described"},
		"unknown status":         {get, "/a/", 500, "application/json", `{"n":1}`, "the status is not described"},
		"unknown media type":     {get, "/a/", 200, "text/html", `{"n":1}`, "the media type text/html is not described"},
		"no media type":          {get, "/a/", 200, "", `{"n":1}`, "Content-Type"},
		"not JSON":               {get, "/a/", 200, "application/json", `{`, "not JSON"},
		"two documents":          {get, "/a/", 200, "application/json", `{"n":1}{}`, "not JSON"},
		"no body":                {get, "/a/", 200, "application/json", ``, "not JSON"},
		"wrong type":             {get, "/a/", 200, "application/json", `{"n":"1"}`, "want integer"},
		"missing property":       {get, "/a/", 200, "application/json", `{}`, "missing property 'n'"},
		"additional property":    {get, "/a/", 200, "application/json", `{"n":1,"m":2}`, "additional properties 'm'"},
		"wrong format":           {get, "/a/", 200, "application/json", `{"n":1,"at":"today"}`, "date-time"},
		"no content":             {"DELETE", "/a/1/b", 204, "", "", ""},
		"content after all":      {"DELETE", "/a/1/b", 204, "", "x", "none is described"},
		"type after all":         {"DELETE", "/a/1/b", 204, "text/plain", "", "none is described"},
		"response by reference":  {"DELETE", "/a/1/b", 404, "application/json", `{"error":"x"}`, ""},
		"the literal wins":       {post, "/a/x/b", 200, "application/json", `{"n":1}`, ""},
		"even at a lower count":  {get, "/a/1/b", 200, "text/plain", "x", "does not list the method"},
		"parameters only":        {get, "/a/1/2", 200, "text/plain", "x", "no way is known"},
		"lines":                  {post, "/a/x/b", 200, "application/x-ndjson", "{\"n\":1}\n{\"n\":2}\n", ""},
		"wrong line":             {post, "/a/x/b", 200, "application/x-ndjson", "{\"n\":1}\n{}\n", "line 2"},
		"empty line":             {post, "/a/x/b", 200, "application/x-ndjson", "{\"n\":1}\n\n", "line 2"},
		"line cut off":           {post, "/a/x/b", 200, "application/x-ndjson", "{\"n\":1}\n{\"n\":2}", "end of a line"},
		"no lines":               {post, "/a/x/b", 200, "application/x-ndjson", "", "end of a line"},
		"events":                 {post, "/a/x/b", 200, "text/event-stream", event + ": ping\n\nretry: 100\n\n" + event, ""},
		"no events":              {post, "/a/x/b", 200, "text/event-stream", ": ping\n\n", ""},
		"event cut off":          {post, "/a/x/b", 200, "text/event-stream", event + "event: b\nfoo", ""},
		"event without id":       {post, "/a/x/b", 200, "text/event-stream", strings.Replace(event, "id: e-1\n", "", 1), "id is missing"},
		"event without name":     {post, "/a/x/b", 200, "text/event-stream", strings.Replace(event, "event: a\n", "", 1), "event is missing"},
		"event without data":     {post, "/a/x/b", 200, "text/event-stream", event + "event: a\nid: e-1\n\n", "event 2: the field data is missing"},
		"event of another kind":  {post, "/a/x/b", 200, "text/event-stream", strings.Replace(event, "event: a", "event: b", 1), "kind"},
		"event with a wrong id":  {post, "/a/x/b", 200, "text/event-stream", strings.Replace(event, "e-1", "e1", 1), `id "e1"`},
		"data against schema":    {post, "/a/x/b", 200, "text/event-stream", strings.Replace(event, "kind", "kin", 1), "missing property 'kind'"},
		"data is not JSON":       {post, "/a/x/b", 200, "text/event-stream", strings.Replace(event, "}", "", 1), "not JSON"},
		"data in two lines":      {post, "/a/x/b", 200, "text/event-stream", strings.Replace(event, "\n\n", "\ndata: 2\n\n", 1), "twice"},
		"unknown field":          {post, "/a/x/b", 200, "text/event-stream", "name: a\n\n", "unknown field"},
		"no field":               {post, "/a/x/b", 200, "text/event-stream", "data\n\n", "no field"},
		"retry is no number":     {post, "/a/x/b", 200, "text/event-stream", "retry: soon\n\n", "no number"},
		"document without types": {get, "/broken", 200, "application/json", `{}`, "there is no schema"},
		"reference to nowhere":   {get, "/broken", 201, "application/json", `{}`, "there is no schema"},
	} {
		t.Run(name, func(t *testing.T) {
			err := doc.check(c.method, c.path, c.status, c.media, []byte(c.body))
			if c.wrong == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, c.wrong)
			}
		})
	}
}

// recorder records the failures of a test.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func TestCheckFailsTheTest(t *testing.T) {
	doc := Load(t)
	fails := &recorder{TB: t}
	const process = `{"process":{"caddy":"v2.11.9","module":"(devel)","started":"2026-11-23T12:00:00Z"},`
	doc.Check(fails, "GET", "/fotor_webhook/", 200, "application/json", []byte(process+`"handlers":[],"unattended":[]}`))
	assert.Empty(t, fails.failures)
	doc.Check(fails, "GET", "/fotor_webhook/", 200, "application/json", []byte(process+`"handlers":null,"unattended":[]}`))
	require.Len(t, fails.failures, 1)
	assert.Contains(t, fails.failures[0], "GET /fotor_webhook/ answered 200")
	assert.Contains(t, fails.failures[0], `"handlers":null,"unattended":[]}`)
}

func TestParseRefuses(t *testing.T) {
	for _, content := range []string{"a: b: c", "- a", "? [1]: 2"} {
		_, err := parse([]byte(content))
		assert.Error(t, err, content)
	}
}

func TestRoutes(t *testing.T) {
	const h = "/fotor_webhook/{name}"
	assert.Equal(t, []Route{
		{"GET", "/fotor_webhook/"},
		{"GET", h},
		{"GET", h + "/backup"},
		{"GET", h + "/events"},
		{"GET", h + "/events/stream"},
		{"GET", h + "/events/{id}"},
		{"DELETE", h + "/events/{id}"},
		{"POST", h + "/events/{id}/copy"},
		{"POST", h + "/events/{id}/replay"},
		{"GET", h + "/explain"},
		{"GET", h + "/find"},
		{"GET", h + "/history"},
		{"POST", h + "/hold"},
		{"POST", h + "/purge"},
		{"GET", h + "/quarantine"},
		{"GET", h + "/quarantine/{id}"},
		{"DELETE", h + "/quarantine/{id}"},
		{"POST", h + "/quarantine/{id}/release"},
		{"POST", h + "/replay"},
		{"POST", h + "/resume"},
		{"GET", h + "/tasks"},
		{"POST", h + "/tasks"},
		{"GET", h + "/tasks/{id}"},
		{"DELETE", h + "/tasks/{id}"},
	}, Load(t).Routes())
}

func TestParameters(t *testing.T) {
	doc := Load(t)
	names, found := doc.Parameters("GET", "/fotor_webhook/default/events?state=dead")
	assert.True(t, found)
	assert.Equal(t, []string{"state", "destination", "task", "type", "since", "until", "limit", "cursor", "order"}, names)
	names, found = doc.Parameters("GET", "/fotor_webhook/default/events/stream")
	assert.True(t, found)
	assert.Equal(t, []string{"last_event_id", "kind", "destination", "task", "type"}, names)
	names, found = doc.Parameters("GET", "/fotor_webhook/default/quarantine/1")
	assert.True(t, found)
	assert.Empty(t, names)
	for _, request := range []Route{{"PUT", "/fotor_webhook/default/events"}, {"GET", "/fotor_webhook"}} {
		_, found = doc.Parameters(request.Method, request.Path)
		assert.False(t, found, request)
	}
}

// The literal segment wins: the stream is not the event with the id "stream".
func TestStreamIsNoEvent(t *testing.T) {
	template, found := Load(t).match("/fotor_webhook/default/events/stream")
	require.True(t, found)
	assert.Equal(t, "/fotor_webhook/{name}/events/stream", template)
}

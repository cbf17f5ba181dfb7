package docs

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/openapi"
)

// TestAdminRoutesTable compares the routes that the page lists with those of
// the OpenAPI description.
func TestAdminRoutesTable(t *testing.T) {
	var described []string
	for _, route := range openapi.Load(t).Routes() {
		described = append(described, route.Method+" "+route.Path)
	}
	require.ElementsMatch(t, described, firstNames(table(t, "docs/admin-api.md", "route")))
}

// mediaOf has the media types of blocks that are answers of the admin API, by the first
// word after the fence. Method and path of the request and status of the answer follow.
var mediaOf = map[string]string{
	"json":  "application/json",
	"jsonl": "application/x-ndjson",
	"sse":   "text/event-stream",
}

func TestAdminAnswersAreAsDescribed(t *testing.T) {
	doc := openapi.Load(t)
	checked := 0
	for _, page := range pages(t) {
		fences, _ := split(t, read(t, page))
		for _, f := range fences {
			if words := strings.Fields(f.info); len(words) == 4 && mediaOf[words[0]] != "" {
				status, err := strconv.Atoi(words[3])
				require.NoError(t, err, "%s:%d", page, f.line)
				doc.Check(t, words[1], words[2], status, mediaOf[words[0]], []byte(f.text))
				checked++
			}
		}
	}
	require.Greater(t, checked, 5)
}

var (
	inCurl   = regexp.MustCompile(`(?:localhost:2019|http://caddy)(/fotor_webhook[^\s'"]*)`)
	inMethod = regexp.MustCompile(` -X ([A-Z]+)`)
)

// TestCurlExamples checks that the OpenAPI description has every request that the pages
// show, with its parameters.
func TestCurlExamples(t *testing.T) {
	doc := openapi.Load(t)
	checked := 0
	for _, page := range pages(t) {
		for _, f := range fencesOf(t, page, "sh") {
			for line := range strings.Lines(f.text) {
				for _, match := range inCurl.FindAllStringSubmatch(line, -1) {
					at := fmt.Sprintf("%s:%d %s", page, f.line, match[1])
					method := http.MethodGet
					if given := inMethod.FindStringSubmatch(line); given != nil {
						method = given[1]
					}
					target, err := url.Parse(match[1])
					require.NoError(t, err, at)
					parameters, found := doc.Parameters(method, target.Path)
					require.True(t, found, at)
					for name, values := range target.Query() {
						require.Contains(t, parameters, name, at)
						require.Len(t, values, 1, at)
					}
					if strings.Contains(match[1], "?") || strings.Contains(match[1], "$") {
						require.Regexp(t, `['"][^'"]*`+regexp.QuoteMeta(match[1])+`['"]`, line, "a shell would read more into it")
					}
					checked++
				}
			}
		}
	}
	require.Greater(t, checked, 20)
}

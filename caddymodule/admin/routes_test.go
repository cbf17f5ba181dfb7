package admin

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/openapi"
)

func TestRoutesAreDescribed(t *testing.T) {
	var ours []openapi.Route
	for _, rt := range routes {
		for method := range rt.methods {
			ours = append(ours, openapi.Route{Method: method, Path: control.Root + rt.path})
		}
	}
	assert.ElementsMatch(t, openapi.Load(t).Routes(), ours)
}

// The parameters of a route are those that are described: the error about an unknown one
// lists them.
func TestParametersAreDescribed(t *testing.T) {
	doc := openapi.Load(t)
	for _, rt := range doc.Routes() {
		names, found := doc.Parameters(rt.Method, rt.Path)
		require.True(t, found, rt)
		want := "no parameters"
		for i := range routes {
			if control.Root+routes[i].path != rt.Path {
				continue
			}
			r := httptest.NewRequestWithContext(t.Context(), rt.Method, "/?surely-unknown=1", nil)
			c := &call{API: new(API), w: httptest.NewRecorder(), r: r, id: "1", gateway: noGateway{}}
			err := routes[i].methods[rt.Method](c)
			require.Error(t, err, rt)
			_, listed, found := strings.Cut(err.Error(), "unknown here: expected ")
			require.True(t, found, "%v: %v", rt, err)
			if len(names) == 0 {
				assert.Equal(t, want, listed, rt)
				continue
			}
			got := strings.Split(listed, ", ")
			slices.Sort(got)
			slices.Sort(names)
			assert.Equal(t, names, got, rt)
		}
	}
}

// noGateway is a handler none of whose methods may be called, except for Inbox, whose
// methods may not be called either.
type noGateway struct{ control.Gateway }

func (noGateway) Inbox() inbox.Inbox { return noInbox{} }

type noInbox struct{ inbox.Inbox }

func TestMatch(t *testing.T) {
	for path, want := range map[string]string{
		"":                          "",
		"default":                   "{name}",
		"default/events":            "{name}/events",
		"default/events/stream":     "{name}/events/stream",
		"default/events/abc":        "{name}/events/{id}",
		"default/events/abc/replay": "{name}/events/{id}/replay",
		"default/events/":           "none",
		"/events":                   "none",
		"default//events":           "none",
		"default/events/a/b":        "none",
		"default/quarantine/1":      "{name}/quarantine/{id}",
	} {
		got := "none"
		for i := range routes {
			if _, ok := routes[i].match(path); ok {
				got = routes[i].path
				break
			}
		}
		assert.Equal(t, want, got, path)
	}
	vars, ok := (&route{path: "{name}/events/{id}"}).match("default/events/abc")
	require.True(t, ok)
	assert.Equal(t, map[string]string{"{name}": "default", "{id}": "abc"}, vars)
	assert.Equal(t, "DELETE, GET", allowedMethods(methods{http.MethodGet: nil, http.MethodDelete: nil}))
}

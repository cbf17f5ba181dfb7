package dashboard

import (
	"encoding/json"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/require"
)

// guarded reports whether all dashboards of a Caddyfile are guarded, of which there must be
// one at least.
func guarded(t *testing.T, config string) bool {
	t.Helper()
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("{\nauto_https off\nadmin off\n}\n"+config), nil)
	require.NoError(t, err)
	var parsed caddy.Config
	require.NoError(t, json.Unmarshal(adapted, &parsed))
	ctx, err := caddy.ProvisionContext(&parsed)
	require.NoError(t, err)
	app, err := ctx.App("http")
	require.NoError(t, err)
	all := true
	found := 0
	for _, server := range app.(*caddyhttp.App).Servers {
		routes := server.Routes
		for _, named := range server.NamedRoutes {
			routes = append(routes, *named)
		}
		for _, h := range dashboards(routes) {
			found++
			all = all && !h.unguarded(server)
		}
	}
	require.Positive(t, found, config)
	return all
}

func dashboards(routes caddyhttp.RouteList) (found []*Handler) {
	for i := range routes {
		for _, handler := range routes[i].Handlers {
			switch m := handler.(type) {
			case *Handler:
				found = append(found, m)
			case *caddyhttp.Subroute:
				found = append(found, dashboards(m.Routes)...)
			}
		}
	}
	return found
}

package dashboard

import (
	"encoding/json"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// guarded reports whether all dashboards of a Caddyfile are guarded, of which there must be
// one at least.
func guarded(t *testing.T, config string) bool {
	t.Helper()
	return each(t, config, func(h *Handler, server *caddyhttp.Server) bool { return !h.unguarded(server) })
}

// each reports whether something is so of all dashboards of a Caddyfile.
func each(t *testing.T, config string, is func(*Handler, *caddyhttp.Server) bool) bool {
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
			all = all && is(h, server)
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

// Where only addresses guard actions, another name that leads to the server must not reach
// the dashboard.
func TestAnyHost(t *testing.T) {
	const hash = "$2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG"
	const dashboard = "fotor_webhook_dashboard {\nallow_actions\n}\n"
	for name, c := range map[string]struct {
		config string
		any    bool
	}{
		"a port of this machine":         {":8080 {\nbind 127.0.0.1\n" + dashboard + "}", true},
		"a port, for some addresses":     {":8080 {\n@in client_ip 10.0.0.0/8\nhandle @in {\n" + dashboard + "}\n}", true},
		"a name":                         {"http://localhost:8080 {\nbind 127.0.0.1\n" + dashboard + "}", false},
		"a name, for some addresses":     {"http://gateway.internal {\n@in client_ip 10.0.0.0/8\nhandle @in {\n" + dashboard + "}\n}", false},
		"a name that is asked for":       {":8080 {\nbind 127.0.0.1\n@other not host localhost\nabort @other\n" + dashboard + "}", false},
		"a password":                     {":8080 {\nbind 127.0.0.1\nbasic_auth {\nbob " + hash + "\n}\n" + dashboard + "}", false},
		"a socket":                       {"http:// {\nbind unix//run/a.sock\n" + dashboard + "}", false},
		"certificates, which name hosts": {":8443 {\ntls internal\nbind 127.0.0.1\n" + dashboard + "}", false},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.any, !each(t, c.config, func(h *Handler, server *caddyhttp.Server) bool { return !h.anyHost(server) }))
		})
	}
}

func TestActionsAreNotForEverybody(t *testing.T) {
	require.NoError(t, (&Handler{AllowActions: true}).Validate())
	require.ErrorContains(t, (&Handler{AllowActions: true, Public: true}).Validate(),
		"public and allow_actions are both set: everybody who reaches it could replay, hold and purge; expected one of them")
}

// The warning about a missing guard says what everybody may do.
func TestWarnings(t *testing.T) {
	for config, want := range map[string]string{
		":80 {\nfotor_webhook_dashboard\n}":                                                  "the dashboard has no guard: whoever reaches it reads",
		":80 {\nfotor_webhook_dashboard {\nallow_actions\n}\n}":                              "anyone may change events",
		":80 {\nbind 127.0.0.1\nfotor_webhook_dashboard\n}":                                  "",
		":80 {\nbind 127.0.0.1\nfotor_webhook_dashboard {\nallow_actions\n}\n}":              "answers to any host name",
		"http://localhost {\nbind 127.0.0.1\nfotor_webhook_dashboard {\nallow_actions\n}\n}": "",
	} {
		each(t, config, func(h *Handler, server *caddyhttp.Server) bool {
			core, logs := observer.New(zap.WarnLevel)
			h.logger = zap.New(core)
			h.warnOf("srv0", server)
			if want == "" {
				require.Empty(t, logs.All(), config)
			} else {
				require.Equal(t, 1, logs.Len(), config)
				require.Contains(t, logs.All()[0].Message, want)
				require.NotEmpty(t, logs.All()[0].ContextMap()["expected"])
			}
			return true
		})
	}
}

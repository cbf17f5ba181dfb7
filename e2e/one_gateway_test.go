package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// sites returns configs with one fotor_webhook on two ports.
func sites(g *gateway, other int, options string) map[string]string {
	handler := "fotor_webhook {\nallow 127.0.0.1\ninbox sqlite " + g.DB + "\n" + options + "\n}\n"
	first, second := fmt.Sprintf("http://127.0.0.1:%d", g.Port), fmt.Sprintf("http://127.0.0.1:%d", other)
	return map[string]string{
		"a site on two ports": first + ", " + second + " {\n" + handler + "}\n",
		"a snippet in two sites": "(fotor) {\n" + handler + "}\n" +
			first + " {\nhandle /else {\nrespond 204\n}\nhandle {\nimport fotor\n}\n}\n" +
			second + " {\nhandle /callback {\nimport fotor\n}\nhandle {\nrespond 404\n}\n}\n",
		"a named route that two sites invoke": "&(fotor) {\n" + handler + "}\n" +
			first + " {\ninvoke fotor\n}\n" + second + " {\nhandle /callback {\ninvoke fotor\n}\n}\n",
		"two paths of one site": first + " {\n" + strings.ReplaceAll(handler, "fotor_webhook {", "fotor_webhook /callback {") +
			strings.ReplaceAll(handler, "fotor_webhook {", "fotor_webhook /other {") + "}\n" + second + " {\n" + handler + "}\n",
	}
}

func TestEqualHandlersOfOneNameAreOneGateway(t *testing.T) {
	for _, options := range []string{
		"forward UPSTREAM",
		"forward {\nhandle /events {\nrespond 500\n}\nhandle {\nreverse_proxy UPSTREAM\n}\n}\nretry {\nfirst 1s\n}",
	} {
		up := newUpstream(t, nil)
		g := newGateway(t)
		other := newGateway(t)
		configs := sites(g, other.Port, strings.ReplaceAll(options, "UPSTREAM", up.URL))
		t.Cleanup(g.Stop)
		accepted := `caddy_fotor_webhook_callbacks_total{handler="default",outcome="accepted"}`
		delivered := 0
		for name, config := range configs {
			config = g.Globals("metrics\n"+quiet) + config
			for range 2 { // the second time as a reload of the same config
				require.NoError(t, g.Load(config), name)
				before := g.Metric(accepted)
				for i := range 4 {
					g.Accept(notice(fmt.Sprint(name, delivered, i), 1))
					other.Accept(notice(fmt.Sprint(name, delivered, i, "other"), 1))
				}
				assert.InDelta(t, before+8, g.Metric(accepted), 0, "each request counts once")
				delivered += 8
				await(t, func() bool { return g.Events("delivered") == delivered }, "the deliveries")
			}
			handlers := ask[control.Handlers](g, http.MethodGet, "", "")
			require.Len(t, handlers.Handlers, 1, name)
			assert.EqualValues(t, delivered, handlers.Handlers[0].Events.Delivered)
		}
		for id, n := range up.Counts() {
			assert.Equal(t, 1, n, id)
		}
		g.Stop()
	}
}

func TestHandlersOfOneNameThatDifferAreRefused(t *testing.T) {
	t.Setenv("E2E_SIGN", "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0")
	g := newGateway(t)
	another := "fotor_webhook /other {\nforward http://127.0.0.1:9/hook?token=hunter2\nallow 10.0.0.0/8\nsign {env.E2E_SIGN}\nretry {\nmax 2h\n}\n}"
	err := g.Load(g.Caddyfile("forward http://127.0.0.1:9/", another, quiet))
	t.Cleanup(g.Stop)
	require.ErrorContains(t, err, `name "default" is used by two fotor_webhook handlers that differ in allow, forward.url, inbox.path, retry.max, sign:`)
	assert.NotContains(t, err.Error(), "hunter2")
}

package e2e

import (
	"net/http"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(panicHandler{})
	httpcaddyfile.RegisterHandlerDirective("fotor_e2e_panic", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return panicHandler{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("fotor_e2e_panic", httpcaddyfile.Before, "respond")
}

// panics is how often the handler is still to panic.
var panics atomic.Int64

// panicHandler is a faulty handler module of somebody else's.
type panicHandler struct{}

// CaddyModule implements caddy.Module.
func (panicHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.fotor_e2e_panic",
		New: func() caddy.Module { return new(panicHandler) },
	}
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (panicHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if panics.Load() > 0 {
		panics.Add(-1)
		panic("a fault in somebody else's handler")
	}
	return next.ServeHTTP(w, r)
}

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

	caddy.RegisterModule(countHandler{})
	httpcaddyfile.RegisterHandlerDirective("fotor_e2e_count", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return countHandler{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("fotor_e2e_count", httpcaddyfile.Before, "header")
}

// panics is how many times the handler has yet to panic.
var panics atomic.Int64

// panicHandler is a faulty handler of another module.
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

// entered counts the requests to countHandler.
var entered atomic.Int64

// countHandler counts the requests that the server passes to its handlers.
type countHandler struct{}

// CaddyModule implements caddy.Module.
func (countHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.fotor_e2e_count",
		New: func() caddy.Module { return new(countHandler) },
	}
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (countHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	entered.Add(1)
	return next.ServeHTTP(w, r)
}

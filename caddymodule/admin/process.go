package admin

import (
	"runtime/debug"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// modulePath is the Go module of the gateway.
const modulePath = "github.com/fotor-webhook/caddy-fotor-webhook"

// started is about when the process started: packages are initialized then.
var started = time.Now().UTC()

// process returns the Caddy that answers.
var process = sync.OnceValue(func() control.Process {
	version, _ := caddy.Version()
	info, _ := debug.ReadBuildInfo()
	return control.Process{Caddy: version, Module: moduleVersion(info), Started: started}
})

// moduleVersion returns the version of the gateway's module: that of a dependency if
// xcaddy built Caddy, or else of the program itself. What was built from a directory has no
// version.
func moduleVersion(info *debug.BuildInfo) string {
	const none = "(devel)"
	if info == nil {
		return none
	}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path != modulePath {
			continue
		}
		if m.Replace != nil {
			m = m.Replace
		}
		if m.Version != "" {
			return m.Version
		}
	}
	return none
}

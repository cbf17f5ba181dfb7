package admin

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTheVersionIsThatOfTheModule(t *testing.T) {
	caddy := &debug.Module{Path: "github.com/caddyserver/caddy/v2", Version: "v2.11.9"}
	for name, c := range map[string]struct {
		info *debug.BuildInfo
		want string
	}{
		"built by xcaddy": {
			&debug.BuildInfo{Main: debug.Module{Path: "caddy"}, Deps: []*debug.Module{caddy, {Path: modulePath, Version: "v1.2.3"}}}, "v1.2.3",
		},
		"replaced by another version": {
			&debug.BuildInfo{Deps: []*debug.Module{{Path: modulePath, Version: "v1.2.3", Replace: &debug.Module{Path: modulePath, Version: "v1.2.4"}}}}, "v1.2.4",
		},
		"replaced by a directory": {
			&debug.BuildInfo{Deps: []*debug.Module{{Path: modulePath, Version: "v1.2.3", Replace: &debug.Module{Path: "../gateway"}}}}, "(devel)",
		},
		"the program itself": {
			&debug.BuildInfo{Main: debug.Module{Path: modulePath, Version: "v1.2.3-0.20261123"}, Deps: []*debug.Module{caddy}}, "v1.2.3-0.20261123",
		},
		"no information": {nil, "(devel)"},
		"no module":      {&debug.BuildInfo{Deps: []*debug.Module{caddy}}, "(devel)"},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, moduleVersion(c.info)) })
	}
}

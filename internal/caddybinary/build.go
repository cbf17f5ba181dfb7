// Package caddybinary builds cmd/caddy and keeps what a run of it stores away from
// the user's own Caddy. It is for tests and the benchmark.
package caddybinary

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const caddyPackage = "github.com/fotor-webhook/caddy-fotor-webhook/cmd/caddy"

// Build builds cmd/caddy as it is released, without cgo, in a directory. It
// returns the path of the binary.
func Build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "caddy")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, caddyPackage)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", caddyPackage, err, output)
	}
	return path, nil
}

// Environ is this process's environment, but with home as the place of all that
// Caddy keeps.
func Environ(home string) []string {
	return append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
}

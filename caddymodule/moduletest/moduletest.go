// Package moduletest has test helpers for Caddy modules.
package moduletest

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/stretchr/testify/require"
)

// Module is a module with a config.
type Module interface {
	caddy.Provisioner
	caddy.Validator
}

// Provision provisions and validates a module as Caddy does when a config is
// loaded.
func Provision(m Module) error {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	if err := m.Provision(ctx); err != nil {
		return err
	}
	return m.Validate()
}

// Case is a Caddyfile text in, and the JSON of the module's config or a part of
// the error out.
type Case struct{ Name, In, Want, Err string }

// UnmarshalCaddyfile unmarshals each text into a new module.
func UnmarshalCaddyfile(t *testing.T, newModule func() caddyfile.Unmarshaler, cases []Case) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			m := newModule()
			err := m.UnmarshalCaddyfile(caddyfile.NewTestDispenser(c.In))
			if c.Err != "" {
				require.ErrorContains(t, err, c.Err)
				return
			}
			require.NoError(t, err)
			got, err := json.Marshal(m)
			require.NoError(t, err)
			require.JSONEq(t, c.Want, string(got))
		})
	}
}

package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

func TestConformance(t *testing.T) {
	usual := defaultLimits
	usual.reserve = smallLimits.reserve // writing the usual reserve so often takes long
	for name, l := range map[string]limits{"usual": usual, "small": smallLimits} {
		t.Run(name, func(t *testing.T) {
			factory := func(t testing.TB) inboxtest.Storage {
				path := filepath.Join(t.TempDir(), "inbox.db")
				return inboxtest.Storage{
					Open: func(t testing.TB, p inbox.Policy) inbox.Inbox {
						return openWith(t, path, l, func(o *options) { o.policy = p })
					},
					Crash: func(t testing.TB, in inbox.Inbox) {
						crashed := crashImage(t, path)
						require.NoError(t, in.Close())
						path = crashed
					},
				}
			}
			inboxtest.Run(t, factory)
			inboxtest.RunPicker(t, factory)
			inboxtest.RunDestinations(t, factory)
			t.Run("Elsewhere", func(t *testing.T) { inboxtest.RunPicker(t, inboxtest.Elsewhere(factory)) })
		})
	}
}

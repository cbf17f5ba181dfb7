package nats

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

func TestConformance(t *testing.T) {
	for name, l := range map[string]limits{"usual": defaultLimits, "small": smallLimits} {
		t.Run(name, func(t *testing.T) {
			f := factory(serve(t).ClientURL(), l)
			inboxtest.Run(t, f)
			inboxtest.RunPicker(t, f)
		})
	}
}

// factory makes storages, each with streams of its own.
func factory(url string, l limits) inboxtest.Factory {
	var streams atomic.Int64
	return func(t testing.TB) inboxtest.Storage {
		stream := fmt.Sprintf("S%d", streams.Add(1))
		return inboxtest.Storage{
			Remote: true,
			Open: func(t testing.TB, p inbox.Policy) inbox.Inbox {
				return openWith(t, url, func(o *options) { o.stream, o.policy, o.limits = stream, p, l })
			},
			Crash: func(t testing.TB, in inbox.Inbox) {
				s, ok := in.(*store)
				require.True(t, ok)
				crash(s)
			},
			AllowNewest: func(t testing.TB, in inbox.Inbox) {
				s, ok := in.(*store)
				require.True(t, ok)
				allowNewest(t, s)
			},
		}
	}
}

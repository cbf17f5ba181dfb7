package nats

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// smallLimits make every boundary come soon.
var smallLimits = limits{
	scan: 10, window: 3, parked: 2, attempts: 100,
	expires: 100 * time.Millisecond, unclaimed: 50 * time.Millisecond, chores: 50 * time.Millisecond,
	inspect: 50 * time.Millisecond,
}

func TestConformance(t *testing.T) {
	for name, l := range map[string]limits{"usual": defaultLimits, "small": smallLimits} {
		t.Run(name, func(t *testing.T) {
			url := serve(t).ClientURL()
			var streams atomic.Int64
			inboxtest.Run(t, func(t testing.TB) inboxtest.Storage {
				stream := fmt.Sprintf("S%d", streams.Add(1))
				return inboxtest.Storage{
					Remote: true,
					Open: func(t testing.TB, p inbox.Policy) inbox.Inbox {
						return with(t, url, func(o *options) { o.stream, o.policy, o.limits = stream, p, l })
					},
					Crash: func(t testing.TB, in inbox.Inbox) {
						s, ok := in.(*store)
						require.True(t, ok)
						crash(s)
					},
				}
			})
		})
	}
}

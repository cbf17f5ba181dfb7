package sqlite

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox/inboxtest"
)

// smallLimits make every boundary come soon.
var smallLimits = limits{
	batch:        4,
	queue:        2,
	indexEntries: 5,
	flushStep:    2,
	retireStep:   3,
	sweepStep:    3,
	sweepMin:     2,
	logFrames:    8,
	scan:         10,
	keptAttempts: 100,
	reserve:      4096,
	lockWait:     10 * time.Second,
	bigTask:      2,
	bigIDs:       1000,
	checkedSize:  1 << 20,
}

// with opens the file with limits; the test closes it.
func with(t testing.TB, path string, l limits, change ...func(*options)) *store {
	t.Helper()
	o := options{
		path: path, maxSize: defaultMaxSize, policy: inbox.Policy{Keep: time.Hour, Quarantine: 10},
		log: zap.NewNop(), now: time.Now, limits: l, schema: schema,
	}
	for _, f := range change {
		f(&o)
	}
	s, err := open(context.Background(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// image copies the file and its log as they are, which is what a crash leaves.
// Nothing may be copying the log into the file meanwhile.
func image(t testing.TB, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "image.db")
	copyFile(t, path, to)
	copyFile(t, path+"-wal", to+"-wal")
	return to
}

func TestConformance(t *testing.T) {
	usual := defaultLimits
	usual.reserve = smallLimits.reserve // writing so much so often takes time
	for name, l := range map[string]limits{"usual": usual, "small": smallLimits} {
		t.Run(name, func(t *testing.T) {
			inboxtest.Run(t, func(t testing.TB) inboxtest.Storage {
				path := filepath.Join(t.TempDir(), "inbox.db")
				return inboxtest.Storage{
					Open: func(t testing.TB, p inbox.Policy) inbox.Inbox {
						return with(t, path, l, func(o *options) { o.policy = p })
					},
					Crash: func(t testing.TB, in inbox.Inbox) {
						crashed := image(t, path)
						require.NoError(t, in.Close())
						path = crashed
					},
				}
			})
		})
	}
}

package sqlite

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// eventBody is as large as a callback with some images.
var eventBody = []byte(`{"pad":"` + strings.Repeat("x", 1100) + `"}`)

// newEvent makes an event of a task of its own.
func newEvent() *inbox.Event {
	var task [16]byte
	_, _ = rand.Read(task[:])
	id := hex.EncodeToString(task[:])
	return &inbox.Event{
		ID: inbox.NewID(id, task[:]), TaskID: id, Type: "avatar", Status: inbox.Completed,
		ReceivedAt: time.Now().UTC().Truncate(time.Microsecond), Body: eventBody,
	}
}

// load puts n events from many goroutines.
func load(b testing.TB, s inbox.Inbox, n, goroutines int) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				if _, err := s.Put(context.Background(), newEvent()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

package fotorwebhook

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/sync/semaphore"

	"github.com/fotor-webhook/caddy-fotor-webhook/body"
	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/gateway"
)

const (
	// largeBody and mediumBody are the lengths over which a body is large or medium. What
	// a smaller one takes while it is parsed is little, and over in a millisecond.
	largeBody  = callback.MaxPooledBody
	mediumBody = 8 << 10

	// maxParsed is the largest number of bodies of such a class that are parsed at once:
	// each may take 50 times its length meanwhile.
	maxParsed = 4
)

var errManyLarge = errors.New("other large bodies were being parsed for as long as it could wait")

// allBodies has the bodies of every handler name. It outlives configs, because a
// reload does not end the requests that hold memory.
var allBodies = caddy.NewUsagePool()

// bodies are the callbacks in memory of the handlers of one name.
type bodies struct {
	name   string
	room   body.Room
	large  *semaphore.Weighted // large bodies that are being parsed
	medium *semaphore.Weighted // medium ones, which do not wait for large ones
	hidden sync.Once           // for the warning that another handler hides connections
}

func newBodies(name string) *bodies {
	return &bodies{name: name, large: semaphore.NewWeighted(parsedAtOnce()), medium: semaphore.NewWeighted(parsedAtOnce())}
}

// parsedAtOnce is how many bodies of a class and a handler name are parsed at once: no
// more than can be, so that the first of many is ready soon.
func parsedAtOnce() int64 { return int64(min(maxParsed, runtime.GOMAXPROCS(0))) }

// acquireBodies returns the bodies of a handler name. They must be released.
func acquireBodies(name string) (*bodies, error) {
	value, _, err := allBodies.LoadOrNew(name, func() (caddy.Destructor, error) {
		return newBodies(name), nil
	})
	if err != nil {
		return nil, err
	}
	return value.(*bodies), nil
}

func (b *bodies) release() error {
	if b == nil {
		return nil
	}
	_, err := allBodies.Delete(b.name)
	return err
}

// Destruct implements caddy.Destructor.
func (*bodies) Destruct() error { return nil }

// parsing must be called before a body of that size is parsed, and end after it. A large
// or medium body waits for its turn, even if the caller hangs up, but no longer than for
// the inbox.
func (b *bodies) parsing(ctx context.Context, size int) (end func(), err error) {
	turns := b.medium
	switch {
	case size <= mediumBody:
		return func() {}, nil
	case size > largeBody:
		turns = b.large
	}
	end = func() { turns.Release(1) }
	if turns.TryAcquire(1) {
		return end, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gateway.StoreTimeout)
	defer cancel()
	if turns.Acquire(ctx, 1) != nil {
		return nil, errManyLarge
	}
	return end, nil
}

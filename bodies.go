package fotorwebhook

import (
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/fotor-webhook/caddy-fotor-webhook/body"
)

// allBodies has the bodies of every handler name. It outlives configs, because a
// reload does not end the requests that hold memory.
var allBodies = caddy.NewUsagePool()

// bodies are the callbacks in memory of the handlers of one name.
type bodies struct {
	name   string
	room   body.Room
	hidden sync.Once // for the warning that another handler hides connections
}

// acquireBodies returns the bodies of a handler name. They must be released.
func acquireBodies(name string) (*bodies, error) {
	value, _, err := allBodies.LoadOrNew(name, func() (caddy.Destructor, error) {
		return &bodies{name: name}, nil
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

package inbox

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
)

// The defaults of a handler that its inbox depends on.
const (
	DefaultName       = "default"
	DefaultKeep       = 7 * 24 * time.Hour
	DefaultQuarantine = 1000
)

// ErrInUse says that an inbox cannot be opened because another process has it.
var ErrInUse = errors.New("is in use")

// Module is what a Caddy module in the namespace http.fotor_webhook.inbox
// implements: it knows where an inbox is stored and how to open it. Its
// Provision only reads config; it touches no file, lock or network.
type Module interface {
	// Key names the storage that Open would open for the handler of this
	// name, such as "sqlite:/var/lib/caddy/fotor_webhook/default.db". Two
	// modules with the same key share one open Inbox, so it must not depend on
	// settings that a reload may change while the storage stays the same.
	Key(name string) string

	// Open opens the storage, creates or migrates it as needed, and proves by a
	// durable write that it can store. ctx bounds the opening only. A storage
	// that only one process can use at a time, and another does, is ErrInUse.
	Open(ctx context.Context, name string, p Policy, log *zap.Logger) (Inbox, error)

	// Apply brings this module's settings and the policy to an Inbox that a
	// module with the same key has opened.
	Apply(in Inbox, p Policy)
}

// Lenient is what a Module can be besides if its Open may return an Inbox whose
// storage was not reached yet.
type Lenient interface {
	// StartsWithoutStorage reports whether a config is to be loaded although the
	// storage is out of reach.
	StartsWithoutStorage() bool
}

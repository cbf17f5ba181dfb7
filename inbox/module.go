package inbox

import (
	"context"

	"go.uber.org/zap"
)

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
	// durable write that it can store. ctx bounds the opening only.
	Open(ctx context.Context, name string, p Policy, log *zap.Logger) (Inbox, error)

	// Apply brings this module's settings and the policy to an Inbox that a
	// module with the same key has opened.
	Apply(in Inbox, p Policy)
}

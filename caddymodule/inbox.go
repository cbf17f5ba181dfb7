// Package caddymodule says what a Caddy module must be that plugs into the
// gateway. The modules live in folders of their own beside it.
package caddymodule

import (
	"context"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Inbox is what a Caddy module in the namespace http.fotor_webhook.inbox
// implements: it knows where an inbox is stored and how to open it. Its
// Provision only reads config; it touches no file, lock or network.
type Inbox interface {
	// Key names the storage that Open would open for the handler of this
	// name, such as "sqlite:/var/lib/caddy/fotor_webhook/default.db". Two
	// modules with the same key share one open inbox, so it must not depend on
	// settings that a reload may change while the storage stays the same.
	Key(name string) string

	// Open opens the storage, creates or migrates it as needed, and proves by a
	// durable write that it can store. ctx bounds the opening only. A storage
	// that only one process can use at a time, and another does, is inbox.ErrInUse.
	Open(ctx context.Context, name string, p inbox.Policy, log *zap.Logger) (inbox.Inbox, error)

	// Apply brings this module's settings and the policy to an inbox that a
	// module with the same key has opened.
	Apply(in inbox.Inbox, p inbox.Policy)
}

// LenientInbox is what an Inbox can be besides if its Open may return an inbox
// whose storage was not reached yet.
type LenientInbox interface {
	// StartsWithoutStorage reports whether a config is to be loaded although the
	// storage is out of reach.
	StartsWithoutStorage() bool
}

// Package caddymodule defines the interfaces of the Caddy modules that plug
// into the gateway, and what those modules share. Each module has a folder of
// its own here.
//
// Read inbox.go, then the package doc of sqlite or nats. caddyfile.go helps
// modules to parse their options; moduletest helps to test them.
package caddymodule

import (
	"context"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Inbox is implemented by the Caddy modules in the namespace
// http.fotor_webhook.inbox: the config of an inbox and the way to open it.
// Provision only reads the config; it touches no file, lock or network.
type Inbox interface {
	// Key identifies the storage that Open would open for the handler of this
	// name, such as "sqlite:/var/lib/caddy/fotor_webhook/default.db". Modules
	// with the same key share one open inbox, so the key must not depend on
	// settings that a reload may change while the storage stays the same.
	Key(name string) string

	// Open opens the storage, creating or migrating it as needed, and proves
	// with a durable write that it can store. ctx bounds the opening only. If
	// only one process can use the storage and another does, the error is
	// inbox.ErrInUse.
	Open(ctx context.Context, name string, p inbox.Policy, log *zap.Logger) (inbox.Inbox, error)

	// Apply applies this module's settings and the policy to an open inbox that
	// has the same key.
	Apply(in inbox.Inbox, p inbox.Policy)
}

// LenientInbox is implemented by an Inbox whose Open may succeed although the
// storage was not reached yet.
type LenientInbox interface {
	// StartsWithoutStorage reports whether a config is to be loaded although
	// the storage cannot be reached.
	StartsWithoutStorage() bool
}

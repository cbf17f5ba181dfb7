package fotorwebhook

import (
	"fmt"

	"github.com/caddyserver/caddy/v2"
)

// inboxPackages are the packages of inboxes that are not built in by themselves.
var inboxPackages = map[string]string{
	"nats": "github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/nats",
}

// checkInbox returns an error if there is no inbox module of that name.
func checkInbox(name string) error {
	if _, err := caddy.GetModule("http.fotor_webhook.inbox." + name); err == nil {
		return nil
	}
	if path := inboxPackages[name]; path != "" {
		return fmt.Errorf("this Caddy is built without the module %s: build it with --with %s", name, path)
	}
	return fmt.Errorf("this Caddy has no inbox module %.64q: expected sqlite or nats", name)
}

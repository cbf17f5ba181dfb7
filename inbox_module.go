package fotorwebhook

import (
	"encoding/json"
	"fmt"

	"github.com/caddyserver/caddy/v2"

	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule"
)

func (h *Handler) provisionInbox(ctx caddy.Context) error {
	// checked here, before the name becomes part of the inbox's key and file name
	if err := checkName(h.Name); err != nil {
		return fmt.Errorf("name %q: %w", h.Name, err)
	}
	var choice struct {
		Module string `json:"module"`
	}
	if err := json.Unmarshal(h.InboxRaw, &choice); err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	if err := checkInbox(choice.Module); err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	mod, err := ctx.LoadModule(h, "InboxRaw")
	if err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	module, ok := mod.(caddymodule.Inbox)
	if !ok {
		return fmt.Errorf("inbox: module %T is not an inbox", mod)
	}
	h.module = module
	if m, ok := mod.(caddy.Module); ok {
		h.inboxName = m.CaddyModule().ID.Name()
	}
	h.key = module.Key(h.Name)
	return nil
}

// inboxPackages are the packages of inbox modules that are not always built in.
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

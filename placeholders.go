package fotorwebhook

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// namedPlaceholder finds a placeholder in Caddy's error that is no secret by
// mistake, such as {env.FOTOR_WEBHOOK_SECRET}.
var namedPlaceholder = regexp.MustCompile(`placeholder (\{(?:env|file|http|system|time|vars)\.[A-Za-z0-9_./-]{1,256}\})`)

// resolve replaces the placeholders of an option's value. Its errors name the
// placeholder, and show nothing else of the value.
func resolve(raw string) (string, error) {
	text, err := caddy.NewReplacer().ReplaceOrErr(raw, true, true)
	if err == nil {
		return text, nil
	}
	found := namedPlaceholder.FindStringSubmatch(err.Error())
	switch {
	case found == nil:
		return "", errors.New("it has a placeholder that is unknown or empty: expected one such as {env.NAME} or {file./run/secrets/name}")
	case strings.Contains(err.Error(), "is empty"):
		return "", fmt.Errorf("%s is empty", found[1])
	default:
		return "", fmt.Errorf("%s is unknown: expected a placeholder such as {env.NAME} or {file./run/secrets/name}", found[1])
	}
}

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

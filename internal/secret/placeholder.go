// Package secret replaces placeholders in values that may be secret.
package secret

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// namedPlaceholder finds a placeholder such as {env.FOTOR_WEBHOOK_SECRET} in Caddy's
// error. Anything else between braces may be part of a secret.
var namedPlaceholder = regexp.MustCompile(`placeholder (\{(?:env|file|http|system|time|vars)\.[A-Za-z0-9_./-]{1,256}\})`)

// Resolve replaces the placeholders of a value. Its errors name the placeholder, and show
// nothing else of the value. A placeholder that is unknown or empty is an error.
func Resolve(raw string) (string, error) {
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
	case strings.HasPrefix(found[1], "{http.fotor_webhook."):
		return "", fmt.Errorf("%s is known in a request only, not when the config is loaded: expected a placeholder such as {env.NAME} or {file./run/secrets/name}", found[1])
	default:
		return "", fmt.Errorf("%s is unknown: expected a placeholder such as {env.NAME} or {file./run/secrets/name}", found[1])
	}
}

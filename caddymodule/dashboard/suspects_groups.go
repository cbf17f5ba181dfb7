package dashboard

import (
	"context"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// groupQuarantine groups the callbacks in quarantine that arrived last by what is wrong
// with them.
func (v *visit) groupQuarantine(ctx context.Context, shown *problemsPage) (err error) {
	shown.Refused, err = control.GroupQuarantine(ctx, v.gateway.Inbox(), lookedAt)
	if more := len(shown.Refused.Groups) - maxGroups; more > 0 {
		shown.MoreRefused, shown.Refused.Groups = more, shown.Refused.Groups[:maxGroups]
	}
	return err
}

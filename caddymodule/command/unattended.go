package command

import (
	"fmt"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// printUnattended prints the inboxes without a handler, if there are any.
func (s *session) printUnattended(all *control.Handlers) {
	if len(all.Unattended) > 0 {
		columns := []column{
			{title: "INBOX WITHOUT A HANDLER", least: 24},
			{title: "PENDING", right: true},
			{title: "DEAD", rank: 2, right: true},
			{title: "QUARANTINED", rank: 3, right: true},
			{title: "TASKS", rank: 4, right: true},
			{title: "NOTE", rank: 1, least: 20},
		}
		rows := make([][]string, 0, len(all.Unattended))
		for _, u := range all.Unattended {
			rows = append(rows, []string{
				quoted(u.Storage), s.bad(u.Pending), s.bad(u.Dead), s.bad(u.Quarantined), s.bad(u.Tracked),
				s.paint(quoted(u.Error), text.FgYellow),
			})
		}
		s.print(s.table(columns, rows))
	}
	if all.MoreUnattended {
		s.print("There may be more inboxes without a handler.\n")
	}
}

// unattendedAttention prints the inboxes in which events or tasks wait although no handler
// sees to them, and reports whether there are any.
func (s *session) unattendedAttention(unattended []control.Unattended) bool {
	found := false
	for _, u := range unattended {
		if u.Pending > 0 {
			found = true
			s.needsAttention(fmt.Sprintf("%s: %s, and no handler has this inbox", quoted(u.Storage), plural(u.Pending, "pending event")))
		}
		if u.Tracked > 0 {
			found = true
			s.needsAttention(fmt.Sprintf("%s: %s, and nobody asks Fotor any more, as no handler has this inbox", quoted(u.Storage), plural(u.Tracked, "waiting task")))
		}
	}
	return found
}

package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const (
	flagFrom   = "from"
	flagDryRun = "dry-run"
	flagYes    = "yes"
)

func migrateCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Moves an inbox file of SQLite into the inbox of a config",
		Long: `
Brings every event of an SQLite inbox file, with what became of it, its attempts
and its trace, the callbacks in quarantine and the tasks that Fotor is to be asked
for into the inbox that a config has now, such as nats. A hold by hand that is in
force goes with them. It needs no admin endpoint, but the file for itself: reload
Caddy with the new inbox first, or stop it.

  caddy fotor-webhook migrate --from /var/lib/caddy/fotor_webhook/default.db --dry-run
  caddy fotor-webhook migrate --from /var/lib/caddy/fotor_webhook/default.db --config /etc/caddy/Caddyfile
  caddy fotor-webhook migrate --from avatars.db --config caddy.json --handler avatars --yes --json

The events go oldest first. What is pending is delivered by whoever runs with the
new inbox, from the attempt on at which it was. What is there already is left
alone, so the command may be interrupted and run again. It ends by comparing
counts. The events of the old file are not changed; remove it when you no longer
need it.

It asks before it begins. Where there is no terminal to ask, it needs --yes or
--dry-run. --json prints one document, the counts.
` + exitHelp,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	flags.String(flagFrom, "", "The SQLite file to move from")
	flags.StringP(flagConfig, "c", "", "Configuration file that has the new inbox; Caddyfile in this directory if not given")
	flags.StringP(flagAdapter, "a", "", "Name of config adapter to apply")
	flags.StringP(flagHandler, "n", "", "Name of the handler in the config; not needed if it has only one")
	flags.Bool(flagDryRun, false, "Only count what is in the file")
	flags.BoolP(flagYes, "y", false, "Do not ask")
	completeNothing(cmd, flagHandler)
	return env.localCommand(cmd, func(ctx context.Context, s *session, _ []string) error {
		return s.migrate(ctx, cmd)
	})
}

// migrated is what migrate prints with --json.
type migrated struct {
	From    string `json:"from"`
	Handler string `json:"handler"`
	Inbox   string `json:"inbox"` // module of the new inbox
	DryRun  bool   `json:"dryRun"`

	// Events counts the events of the old file by state. Imported of them were imported,
	// Duplicates were already in the new inbox.
	Events     control.Counts `json:"events"`
	Imported   int64          `json:"imported"`
	Duplicates int64          `json:"duplicates"`

	// Quarantined counts the callbacks in the old file's quarantine.
	Quarantined          int64 `json:"quarantined"`
	QuarantineImported   int64 `json:"quarantineImported"`
	QuarantineDuplicates int64 `json:"quarantineDuplicates"`

	// Tracked counts the tasks of the old file that Fotor is to be asked for.
	// TrackedImported of them were imported; the others were there, or have ended.
	Tracked         int64 `json:"tracked,omitempty"`
	TrackedImported int64 `json:"trackedImported,omitempty"`

	HeldByHand bool `json:"heldByHand"`
	Done       bool `json:"done"`
}

func (m *migrated) total() int64 {
	return m.Events.Pending + m.Events.Delivered + m.Events.Superseded + m.Events.Dead + m.Events.Skipped
}

// migrate moves the inbox of the file into that of the config.
func (s *session) migrate(ctx context.Context, cmd *cobra.Command) (err error) {
	flags := cmd.Flags()
	dry, _ := flags.GetBool(flagDryRun)
	yes, _ := flags.GetBool(flagYes)
	from, _ := flags.GetString(flagFrom)
	if from == "" {
		return errors.New("nothing says which file to move from: expected --from with the path of an SQLite inbox")
	}
	if !dry && !yes && !s.canAsk() {
		return errors.New("there is no terminal to ask before a migration: expected --yes or --dry-run")
	}
	m, err := s.newMigration(ctx, cmd, from)
	if err != nil {
		return err
	}
	defer m.cleanUp()
	if err := m.openSource(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.source.Close()) }()
	if err := m.countSource(ctx); err != nil {
		return err
	}
	if dry {
		m.DryRun, m.Done = true, true
		return s.printMigrated(m, nil)
	}
	if !yes {
		question := fmt.Sprintf("move %s and %s in quarantine of %s into the inbox %s of handler %s?",
			plural(m.total(), "event"), plural(m.Quarantined, "callback"), from, m.Inbox, m.Handler)
		if err := s.confirm(ctx, question); err != nil {
			return err
		}
	}
	if err := m.openTarget(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.target.Close()) }()
	return s.printMigrated(m, m.run(ctx))
}

// printMigrated prints how far the migration got, and returns its error.
func (s *session) printMigrated(m *migration, err error) error {
	if s.json {
		document, jsonErr := json.Marshal(m.migrated)
		s.printJSON(escapeJSON(document))
		return errors.Join(err, jsonErr)
	}
	s.print(m.text())
	if err != nil {
		err = fmt.Errorf("%w; run the command again to go on", err)
	}
	return err
}

func (m *migrated) text() string {
	var b strings.Builder
	did := fmt.Sprintf("%s imported into the inbox %s of handler %s", plural(m.Imported, "event"), m.Inbox, m.Handler)
	if m.DryRun {
		did = fmt.Sprintf("%s would be imported into the inbox %s of handler %s", plural(m.total(), "event"), m.Inbox, m.Handler)
	}
	fmt.Fprintf(&b, "%s.", did)
	if m.Duplicates > 0 {
		fmt.Fprintf(&b, " %s there already.", count(m.Duplicates))
	}
	skipped := ""
	if m.Events.Skipped > 0 {
		skipped = fmt.Sprintf(", %s skipped", count(m.Events.Skipped))
	}
	fmt.Fprintf(&b, "\nOf the file: %s pending, %s delivered, %s superseded, %s dead%s.\n",
		count(m.Events.Pending), count(m.Events.Delivered), count(m.Events.Superseded), count(m.Events.Dead), skipped)
	switch {
	case m.DryRun && m.Quarantined > 0:
		fmt.Fprintf(&b, "%s in quarantine as well.\n", plural(m.Quarantined, "callback"))
	case m.Quarantined > 0:
		fmt.Fprintf(&b, "%s in quarantine imported, %s there already.\n",
			plural(m.QuarantineImported, "callback"), count(m.QuarantineDuplicates))
	}
	b.WriteString(m.tasksText())
	if m.HeldByHand {
		b.WriteString("Deliveries are held by hand, as they were in the file.\n")
	}
	if m.Done && !m.DryRun {
		fmt.Fprintf(&b, `
Nothing needs the old file any more once Caddy runs with the new inbox. Its events
are as they were. To remove it:
  rm -- %s
  rm -f -- %s
`, shellQuoted(m.From), sideFiles(m.From))
	}
	return b.String()
}

// sideFiles returns the paths of the files that an SQLite inbox has beside its own.
func sideFiles(path string) string {
	paths := []string{"-wal", "-shm", ".lock", ".reserve"}
	for i, suffix := range paths {
		paths[i] = shellQuoted(path + suffix)
	}
	return strings.Join(paths, " ")
}

func shellQuoted(path string) string {
	plain := func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%", r)
	}
	if path != "" && !strings.ContainsFunc(path, plain) {
		return path
	}
	return "'" + strings.ReplaceAll(escapeText(path), "'", `'\''`) + "'"
}

// add adds to the count of events in a state.
func (m *migrated) add(state inbox.State, n int64) {
	switch state {
	case inbox.Pending:
		m.Events.Pending += n
	case inbox.Delivered:
		m.Events.Delivered += n
	case inbox.Superseded:
		m.Events.Superseded += n
	case inbox.Dead:
		m.Events.Dead += n
	case inbox.Skipped:
		m.Events.Skipped += n
	}
}

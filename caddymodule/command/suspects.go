package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// suspects is a command that changes callbacks in quarantine: those with the given ids, or
// all that fit a filter.
type suspects struct {
	verb   string // in the command and the question
	past   string
	atOnce int // callbacks that are changed at once
	do     changeSuspect

	// sparesUnconfirmed says that a filter leaves out callbacks that Fotor did not confirm,
	// unless it asks for them.
	sparesUnconfirmed bool
}

// suspectFlags choose callbacks in quarantine.
var suspectFlags = []string{"since", "until", "from", "answer", "problem"}

const suspectsLong = `
With a filter it asks before it changes anything. Where there is no terminal to
ask, it needs --yes or --dry-run.
`

func (env *environment) suspectsCommand(cmd *cobra.Command, c suspects) *cobra.Command {
	addSuspectFlags(cmd)
	flags := cmd.Flags()
	flags.Int("limit", 0, "The most callbacks to "+c.verb+"; all if not given")
	flags.Bool("all", false, "All callbacks in quarantine, in place of a filter")
	flags.Bool("dry-run", false, "Only count")
	flags.BoolP("yes", "y", false, "Do not ask")
	completeNothing(cmd, "limit")
	return env.adminCommand(cmd, func(ctx context.Context, s *session, args []string) error {
		all, _ := flags.GetBool("all")
		filtered := slices.ContainsFunc(suspectFlags, flags.Changed)
		switch {
		case len(args) > 0 && (all || filtered || flags.Changed("limit") || flags.Changed("dry-run")):
			return errors.New("a filter, --all, --limit and --dry-run do not go with ids: expected ids or a filter")
		case len(args) > 0:
			return s.eachCallback(ctx, args, c.do)
		case all && filtered:
			return errors.New("--all means every callback, so it does not go with a filter: expected one of them")
		case !all && !filtered:
			return errors.New("nothing says which callbacks: expected ids of callbacks in quarantine, a filter such as --until 30d, or --all")
		}
		return s.suspectsMany(ctx, cmd, c)
	})
}

// addSuspectFlags adds the flags that choose callbacks in quarantine.
func addSuspectFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.String("since", "", "Only callbacks that arrived last then or later: a time, or a duration such as 2h for so long ago")
	flags.String("until", "", "Only callbacks that arrived last before: a time, or a duration such as 30d for so long ago")
	flags.String("from", "", "Only callbacks that came from this address or range")
	flags.Int("answer", 0, "Only callbacks that were answered this status: 400, 415 or 422, or 200 for those that Fotor did not confirm")
	flags.String("problem", "", "Only callbacks with this text in one of the listed problems, its JSON pointer included")
	completeNothing(cmd, "since", "until", "from", "problem")
	completeFixed(cmd, "answer", "200", "400", "415", "422")
}

// suspectFilter chooses callbacks in quarantine.
type suspectFilter struct {
	since, until time.Time
	from         netip.Prefix
	answer       int
	problem      string
	text         string // the flags
}

func (env *environment) suspectFilter(cmd *cobra.Command) (f suspectFilter, err error) {
	times := make(url.Values)
	if err := env.filterTimes(cmd, times); err != nil {
		return f, err
	}
	flags := cmd.Flags()
	for name, at := range map[string]*time.Time{"since": &f.since, "until": &f.until} {
		if times.Has(name) {
			if *at, err = time.Parse(time.RFC3339Nano, times.Get(name)); err != nil {
				return f, err
			}
		}
	}
	if flags.Changed("from") {
		from, _ := flags.GetString("from")
		if f.from, err = parseRange(from); err != nil {
			return f, fmt.Errorf("--from %q: expected an address or a range, such as 54.212.95.175 or 54.212.95.0/24", from)
		}
	}
	if f.answer, _ = flags.GetInt("answer"); flags.Changed("answer") && !slices.Contains([]int{http.StatusOK, 400, 415, 422}, f.answer) {
		return f, fmt.Errorf("--answer %d: expected 200, 400, 415 or 422", f.answer)
	}
	if f.problem, _ = flags.GetString("problem"); flags.Changed("problem") && f.problem == "" {
		return f, errors.New("--problem is empty: expected a part of a problem, such as /avatarResult")
	}
	for _, name := range suspectFlags {
		if flags.Changed(name) {
			f.text += fmt.Sprintf(" --%s %s", name, quoted(flags.Lookup(name).Value.String()))
		}
	}
	return f, nil
}

// parseRange parses a range of addresses, or a single address.
func parseRange(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Unmap().Prefix(addr.Unmap().BitLen())
	}
	return netip.ParsePrefix(s)
}

// fits reports whether the filter chooses a callback.
func (f *suspectFilter) fits(q *control.Quarantined) bool {
	if !f.since.IsZero() && q.LastAt.Before(f.since) || !f.until.IsZero() && !q.LastAt.Before(f.until) ||
		f.answer != 0 && q.Status != f.answer {
		return false
	}
	if f.from.IsValid() {
		addr, err := netip.ParseAddr(q.SourceIP)
		if err != nil || !f.from.Contains(addr.Unmap()) {
			return false
		}
	}
	return f.problem == "" || slices.ContainsFunc(q.Problems, func(p control.Problem) bool {
		return strings.Contains(problem(p), f.problem)
	})
}

// suspectsMany changes the callbacks that fit a filter: it counts them, asks, changes them
// and tells how many.
func (s *session) suspectsMany(ctx context.Context, cmd *cobra.Command, c suspects) error {
	flags := cmd.Flags()
	filter, err := s.suspectFilter(cmd)
	if err != nil {
		return err
	}
	limit, _ := flags.GetInt("limit")
	if flags.Changed("limit") && limit < 1 {
		return fmt.Errorf("--limit %d: expected 1 or more", limit)
	}
	dry, _ := flags.GetBool("dry-run")
	yes, _ := flags.GetBool("yes")
	if !dry && !yes && !s.canAsk() {
		return fmt.Errorf("there is no terminal to ask before a %s by filter: expected --yes or --dry-run", c.verb)
	}
	handler, err := s.chosen(ctx)
	if err != nil {
		return err
	}
	ids, spared, err := s.suspectIDs(ctx, handler, &filter, c)
	if err != nil {
		return err
	}
	if spared > 0 {
		s.note("%s that Fotor did not confirm left out: expected ids, or --answer 200, to %s such.", plural(spared, "callback"), c.verb)
	}
	if limit > 0 {
		ids = ids[:min(len(ids), limit)]
	}
	number := plural(int64(len(ids)), "callback")
	switch {
	case len(ids) == 0:
		if !s.json {
			s.printf("Nothing in quarantine matches%s: no callback was %s.\n", filter.text, c.past)
		}
		return nil
	case dry:
		return s.suspectsDry(ids, number, c)
	case !yes:
		if err := s.confirm(ctx, fmt.Sprintf("%s %s in quarantine of handler %s?", c.verb, number, handler)); err != nil {
			return err
		}
	}
	return s.changeSuspects(ctx, handler, ids, c)
}

// suspectsDry tells which callbacks a change would be about.
func (s *session) suspectsDry(ids []string, number string, c suspects) error {
	if s.json {
		document, err := json.Marshal(map[string]any{"matched": len(ids), "dryRun": true})
		if err != nil {
			return err
		}
		return s.printLine(document)
	}
	// whether a callback is valid now is only known when it is released
	would := "deleted"
	if c.verb == "release" {
		would = "validated again"
	}
	s.printf("%s would be %s.\n", number, would)
	return nil
}

// suspectIDs returns the ids of the callbacks in quarantine that fit, the oldest first, so
// that the events of a task keep their order, and how many the change leaves out.
func (s *session) suspectIDs(ctx context.Context, handler string, f *suspectFilter, c suspects) (ids []string, spared int64, err error) {
	seen := make(map[int64]bool) // one that arrives meanwhile may be listed twice
	_, err = s.eachPage(ctx, s.quarantineLister(handler, f), 0, func(rows []json.RawMessage, _ bool) error {
		for _, raw := range rows {
			var q control.Quarantined
			if err := json.Unmarshal(raw, &q); err != nil {
				return fmt.Errorf("a row is not what this version expects: %w", err)
			}
			switch {
			case seen[q.ID]:
				continue
			case c.sparesUnconfirmed && q.Unconfirmed() && f.answer == 0:
				spared++
			default:
				ids = append(ids, strconv.FormatInt(q.ID, 10))
			}
			seen[q.ID] = true
		}
		return nil
	})
	slices.Reverse(ids)
	return ids, spared, err
}

// changeSuspects changes callbacks, with its progress, and prints those that were not
// changed and how many were. With --json it prints a line for each.
func (s *session) changeSuspects(ctx context.Context, handler string, ids []string, c suspects) error {
	var mu sync.Mutex
	code, done, refused, gone := exitDone, 0, 0, 0
	progress := s.newProgress(c.past, int64(len(ids)))
	var kept strings.Builder // printed after the bar has ended
	jobs, jobsCtx := errgroup.WithContext(ctx)
	jobs.SetLimit(c.atOnce)
	for _, id := range ids {
		if jobsCtx.Err() != nil {
			break
		}
		jobs.Go(func() error {
			r, err := s.changeOne(jobsCtx, handler, id, c.do)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				return err
			case r.code == exitDone:
				done++
			case r.code == exitNotFound: // somebody else was faster
				gone++
			default:
				refused++
				code = worse(code, r.code)
			}
			progress.set(int64(done + refused + gone))
			if s.json {
				return s.printResult(id, r.text, r.status, r.raw)
			}
			if r.code == exitNo {
				fmt.Fprintf(&kept, "%s: %s\n", id, r.text)
			}
			return nil
		})
	}
	err := jobs.Wait()
	if err == nil {
		err = ctx.Err()
	}
	progress.end(0, err == nil)
	if !s.json {
		s.print(kept.String())
		line := plural(int64(done), "callback") + " " + c.past
		if err != nil {
			line = fmt.Sprintf("%s of %s %s", count(int64(done)), plural(int64(len(ids)), "callback"), c.past)
		}
		if refused > 0 {
			line += ", " + count(int64(refused)) + " still not valid"
		}
		if gone > 0 {
			line += ", " + count(int64(gone)) + " gone"
		}
		s.print(line + ".\n")
	}
	if err != nil {
		return err
	}
	return exitQuietly(code)
}

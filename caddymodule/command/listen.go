package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sample"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/signature"
)

func listenCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "listen",
		Short: "Shows what arrives, and hands copies to a service on your machine",
		Long: `
Prints a line for each event that arrives, and with --to POSTs a copy of it to a
URL: header, signature and body as your service would get them at the first
attempt. It is for work on a service with the events of production. It takes
nothing from there: no delivery is made, delayed or acknowledged by it, whatever
the URL answers. It goes on over reloads and restarts of Caddy, and while the URL
does not answer. Ctrl-C ends it.

  caddy fotor-webhook listen
  caddy fotor-webhook listen --to http://localhost:3000/events
  caddy fotor-webhook listen --to http://localhost:3000/ --type avatar --since 1h
  caddy fotor-webhook listen --to http://localhost:3000/ --destination app -n 10
  caddy fotor-webhook listen --to http://localhost:3000/ --sign "{env.DEV_SECRET}"

The gateway signs a copy with the secrets of the destination, which do not leave
it; with --sign this command does. Fotor-Webhook-Copy says that it is a copy.
Each event is sent once, one after the other, in the order of arrival. If more
arrive than the URL takes, some are left out, and it says how many.

-n is the number of lines here; --handler has no short form.
--json prints a line of JSON for each event, with the answer as "copy".
` + exitHelp,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.String(flagTo, "", "POST a copy of each event to this http or https URL")
	env.addDestinationFlag(cmd, "With --to: the copies are those of this destination; required if there are several", true)
	flags.StringArray("sign", nil, "With --to: sign with this secret, or a placeholder such as {env.NAME}, in place of the destination's; repeatable")
	flags.String("task", "", "Only events of the Fotor task with this id")
	flags.String("type", "", "Only events of tasks of this type, such as avatar")
	flags.StringSlice("status", nil, "Only events with these statuses: "+strings.Join(sample.Statuses, ", "))
	flags.String("since", "", "Begin with the events that arrived since then: a time, or a duration such as 2h for so long ago")
	flags.IntP("lines", "n", 0, "End after so many events")
	completeFixed(cmd, "type", sample.Types...)
	completeList(cmd, "status", sample.Statuses...)
	completeNothing(cmd, flagTo, "sign", "task", "since", "lines")
	addOutgoingFlags(cmd)
	return env.adminCommand(cmd, func(ctx context.Context, s *session, _ []string) error {
		plan, err := env.listenPlan(cmd)
		if err != nil {
			return err
		}
		return s.listen(ctx, plan)
	})
}

// listenPlan is what to listen to, and what to do with it.
type listenPlan struct {
	filter      url.Values // of the API, without the destination
	statuses    []string   // none: all
	since       string     // "" to begin with what arrives next
	lines       int        // 0: no end
	destination string
	to          *outgoing // nil: nothing is copied
	secrets     [][]byte
}

func (env *environment) listenPlan(cmd *cobra.Command) (*listenPlan, error) {
	flags := cmd.Flags()
	p := &listenPlan{filter: make(url.Values)}
	if err := errors.Join(listFilter(cmd, make(url.Values), "status", sample.Statuses), textFilters(cmd, p.filter), env.filterTimes(cmd, p.filter)); err != nil {
		return nil, err
	}
	p.statuses, _ = flags.GetStringSlice("status")
	p.since, p.destination = p.filter.Get("since"), p.filter.Get(flagDestination)
	p.filter.Del("since")
	p.filter.Del(flagDestination)
	p.lines, _ = flags.GetInt("lines")
	if flags.Changed("lines") && p.lines < 1 {
		return nil, fmt.Errorf("--lines %d: expected 1 or more", p.lines)
	}
	if !flags.Changed(flagTo) {
		for _, name := range []string{flagDestination, "sign", "header", "resolve", "insecure", "timeout"} {
			if flags.Changed(name) {
				return nil, fmt.Errorf("--%s is about the copies: expected --to with the URL that gets them", name)
			}
		}
		return p, nil
	}
	to, _ := flags.GetString(flagTo)
	var err error
	if p.to, err = outgoingFlags(cmd, "--to ", to); err != nil {
		return nil, err
	}
	secrets, _ := flags.GetStringArray("sign")
	if p.secrets, err = signature.Parse(secrets); err != nil {
		return nil, fmt.Errorf("--%w", err)
	}
	return p, nil
}

// listen follows what arrives, and has it printed and copied meanwhile.
func (s *session) listen(ctx context.Context, plan *listenPlan) error {
	handler, err := s.chosen(ctx)
	if err != nil {
		return err
	}
	env := *s.environment // notes come from two goroutines
	env.stderr = &lockedWriter{w: s.stderr}
	s.environment = &env
	if err := s.beforeListening(ctx, handler, plan); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	l := newListener(s, handler, plan)
	query := url.Values{"kind": {control.Accepted}}
	maps.Copy(query, plan.filter)
	t := s.follower(handler, query, l.arrived)
	t.ready = func() { close(l.following) }

	var worked error
	var worker sync.WaitGroup
	worker.Go(func() {
		defer stop()
		worked = l.work(ctx)
	})
	err = t.run(ctx)
	stop()
	worker.Wait()
	l.end()
	return errors.Join(worked, err)
}

// beforeListening checks what the config says about the plan, and says what to mind.
func (s *session) beforeListening(ctx context.Context, handler string, plan *listenPlan) error {
	h, _, err := get[control.Handler](ctx, s.client, call{path: []string{handler}})
	if err != nil {
		return err
	}
	if plan.to == nil {
		s.note("Listening to %q at %s. Ctrl-C ends it.", handler, s.client.address)
	} else {
		if err := s.chooseDestination(&h, plan); err != nil {
			return err
		}
		s.note("Copies of what arrives at %q go to %s. Ctrl-C ends it.", handler, withoutUser(plan.to.url))
		plan.to.warn(s)
		if !plan.to.local() {
			s.note("Note that this is another machine: the events of production are sent there.")
		}
	}
	if h.Config.Inbox != "sqlite" {
		s.note("Note that this is what arrives at this Caddy. Of others that share its inbox, listen to each, with --address.")
	}
	return nil
}

// chooseDestination makes sure that there is one destination whose copies are made.
func (s *session) chooseDestination(h *control.Handler, plan *listenPlan) error {
	var names []string
	for i := range h.Destinations {
		if h.Destinations[i].Configured {
			names = append(names, quoted(h.Destinations[i].Name))
		}
	}
	switch {
	case plan.destination == "" && len(names) > 1:
		return fmt.Errorf("the handler has several destinations, choose whose copies with --destination: %s", strings.Join(names, ", "))
	case plan.destination != "" && len(names) > 0 && !slices.Contains(names, plan.destination):
		return &exitError{exitNotFound, fmt.Errorf("the config has no destination %q: expected %s", plan.destination, strings.Join(names, ", "))}
	}
	return nil
}

// local reports whether requests go to this machine.
func (o *outgoing) local() bool {
	u, err := url.Parse(o.url)
	if err != nil {
		return false
	}
	addresses := o.connectTo(dialed(u))
	if addresses == nil {
		addresses = []string{dialed(u)}
	}
	return !slices.ContainsFunc(addresses, func(address string) bool {
		host, _, _ := net.SplitHostPort(address)
		return host != "localhost" && !strings.HasSuffix(host, ".localhost") && !net.ParseIP(host).IsLoopback()
	})
}

// withoutUser returns a URL without user and password.
func withoutUser(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return target
	}
	u.User = nil
	return u.String()
}

// lockedWriter is a writer for several goroutines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

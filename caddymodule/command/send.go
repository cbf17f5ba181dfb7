package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sample"
)

const (
	maxConcurrency = 1024

	// maxFile bounds the file to send. It is more than the largest max_body that a handler
	// can have, so that a body that is too large can be tried.
	maxFile = 128 << 20
)

func sendCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "send <url>",
		Short: "Posts callbacks to a URL as Fotor does",
		Long: `
Posts callbacks to any http or https URL, as Fotor does, each of a new task, and
prints the answers. It needs no admin endpoint. The gateway must let this machine's
address in.

  caddy fotor-webhook send http://localhost:8080/fotor/callback
  caddy fotor-webhook send http://localhost:8080/fotor/callback --status in_progress,completed
  caddy fotor-webhook send http://localhost:8080/fotor/callback --repeat 1000 --concurrency 8 --rate 50/s --quiet
  caddy fotor-webhook send https://example.com/fotor/callback --resolve example.com:443:127.0.0.1 --insecure
  echo '{"status":3}' | caddy fotor-webhook send http://localhost:8080/fotor/callback --file -

With several of --status, each task has a callback for each, in that order. With
--file the body is sent as it is, --repeat times. A callback is accepted if the
answer is 200, which is what Fotor wants, with the id of an event: any other
handler of a site may answer 200 too. Ctrl-C ends it with the summary.

--json prints a line of JSON for each answer, then one with the member "summary".
` + exitHelpNo("a callback was not accepted") + severalSent,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	addSendFlags(cmd)
	return env.localCommand(cmd, func(ctx context.Context, s *session, args []string) error {
		plan, err := env.sendPlan(cmd, args[0])
		if err != nil {
			return err
		}
		plan.warn(s)
		return newSender(s, plan).send(ctx)
	})
}

const severalSent = `1 goes before 5: no answer to a callback is a failure.
`

func addSendFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.String("type", "avatar", "The task's type: "+strings.Join(sample.Types, ", ")+", or any other")
	flags.StringSlice("status", []string{"completed"}, "The task's status: in_progress, completed, failed, or any number; several are sent in that order")
	flags.Int("repeat", 1, "How many times, each with a new task")
	flags.String("rate", "", "The most callbacks in a time, such as 50/s or 600/m; without, as fast as they are answered")
	flags.Int("concurrency", 1, "How many tasks at once")
	flags.Bool("sensitive", false, "Say that the result is harmful or sensitive")
	flags.String("file", "", "Send this file as it is; - is standard input")
	flags.String("task", "", "The task's id, in place of a new one")
	flags.BoolP("quiet", "q", false, "Print the summary only")
	completeFixed(cmd, "type", sample.Types...)
	completeList(cmd, "status", "in_progress", "completed", "failed")
	completeNothing(cmd, "repeat", "rate", "concurrency", "task")
	addOutgoingFlags(cmd)
}

// sendPlan is what to send.
type sendPlan struct {
	*outgoing
	kind        sample.Kind
	statuses    []int
	repeat      int
	limit       rate.Limit
	concurrency int
	task        string
	file        []byte // the body to send; nil to make callbacks
	quiet       bool
}

func (env *environment) sendPlan(cmd *cobra.Command, target string) (*sendPlan, error) {
	out, err := outgoingFlags(cmd, "", target)
	if err != nil {
		return nil, err
	}
	flags := cmd.Flags()
	p := &sendPlan{outgoing: out}
	p.kind.Type, _ = flags.GetString("type")
	p.kind.Sensitive, _ = flags.GetBool("sensitive")
	p.repeat, _ = flags.GetInt("repeat")
	p.concurrency, _ = flags.GetInt("concurrency")
	p.task, _ = flags.GetString("task")
	p.quiet, _ = flags.GetBool("quiet")
	switch {
	case p.kind.Type == "":
		return nil, errors.New("--type is empty: expected a task's type, such as avatar")
	case flags.Changed("task") && p.task == "":
		return nil, errors.New("--task is empty: expected a task's id")
	case p.repeat < 1:
		return nil, fmt.Errorf("--repeat %d: expected 1 or more", p.repeat)
	case p.concurrency < 1 || p.concurrency > maxConcurrency:
		return nil, fmt.Errorf("--concurrency %d: expected 1 to %d", p.concurrency, maxConcurrency)
	}
	values, _ := flags.GetStringSlice("status")
	if p.statuses, err = parseStatuses(values); err != nil {
		return nil, err
	}
	p.limit = rate.Inf
	if value, _ := flags.GetString("rate"); flags.Changed("rate") {
		if p.limit, err = parseRate("rate", value); err != nil {
			return nil, err
		}
	}
	return p, env.sendFile(cmd, p)
}

func parseStatuses(values []string) ([]int, error) {
	statuses := make([]int, 0, len(values))
	for _, value := range values {
		status, err := sample.ParseStatus(value)
		if err != nil {
			return nil, fmt.Errorf("--status %q: %w", value, err)
		}
		statuses = append(statuses, status)
	}
	if len(statuses) == 0 {
		return nil, errors.New("--status is empty: expected in_progress, completed or failed")
	}
	return statuses, nil
}

// parseRate parses a rate such as 50/s. Without a unit it is per second.
func parseRate(flag, value string) (rate.Limit, error) {
	number, unit, _ := strings.Cut(value, "/")
	n, err := strconv.ParseFloat(number, 64)
	seconds := map[string]float64{"": 1, "s": 1, "m": 60, "h": 3600}[unit]
	if err != nil || !(n > 0 && n <= 1e6) || seconds == 0 || strings.HasSuffix(value, "/") {
		return 0, fmt.Errorf("--%s %q: expected a number in a time, such as 50/s, 600/m or 100/h", flag, value)
	}
	return rate.Limit(n / seconds), nil
}

func (env *environment) sendFile(cmd *cobra.Command, p *sendPlan) error {
	if !cmd.Flags().Changed("file") {
		return nil
	}
	for _, flag := range []string{"type", "status", "sensitive", "task"} {
		if cmd.Flags().Changed(flag) {
			return fmt.Errorf("--%s does not go with --file, which is sent as it is", flag)
		}
	}
	name, _ := cmd.Flags().GetString("file")
	in := env.stdin
	if name != "-" {
		file, err := os.Open(name) //nolint:gosec // the user says which file
		if err != nil {
			return fmt.Errorf("--file: %w", err)
		}
		defer file.Close()
		in = file
	}
	body, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	switch {
	case err != nil:
		return fmt.Errorf("--file %s: %w", name, err)
	case len(body) > maxFile:
		return fmt.Errorf("--file %s: expected at most %s", name, size(maxFile))
	}
	p.file = body
	return nil
}

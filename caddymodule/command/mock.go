package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fotor-webhook/caddy-fotor-webhook/fotorapi/mock"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/secret"
)

// mockAddress is where mock listens unless it is told.
const mockAddress = "127.0.0.1:9300"

func mockCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mock",
		Short: "Plays Fotor: its API for tasks, and callbacks about them",
		Long: `
Plays Fotor, so that all of the gateway can be tried without an account: it takes
tasks, sends callbacks about them, and answers what became of them. It says what it
does, a line each. Nothing is generated, and its result URLs lead nowhere. It needs
no admin endpoint. The gateway must let this machine's address in. Ctrl-C ends it
with a summary.

  caddy fotor-webhook mock --callback http://localhost:8080/fotor/callback
  caddy fotor-webhook mock --callback http://localhost:8080/fotor/callback --lose 10% --duplicate 5% --fail 5%
  caddy fotor-webhook mock --callback http://localhost:8080/fotor/callback --s3 --forge 2% --429 1/20 --delay 10s

It has these calls of Fotor's API, for any product, and for any key unless --key
says which:

  curl -H "Authorization: Bearer any" -d "{}" http://127.0.0.1:9300/v1/aiart/avatar
  curl -H "Authorization: Bearer any" http://127.0.0.1:9300/v1/aiart/tasks/<taskId>
  curl -H "Authorization: Bearer any" http://127.0.0.1:9300/v1/credits

A share is 10%, 1/20 or 0.05. What happens by chance happens again with the same
--seed, which the summary has, if the tasks come in the same order. A callback is
sent once, whatever it is answered, as Fotor documents no retries.

--json prints a line of JSON for each thing that happens, then one with the member
"summary".
` + exitHelp,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.String("listen", mockAddress, "Where to listen: an address of this machine and a port")
	flags.String("callback", "", "POST callbacks to this http or https URL; without, none are sent")
	flags.String("key", "", "The API key to accept, or a placeholder such as {env.NAME}; any unless given")
	flags.Duration("delay", mock.DefaultDelay, "How long a task takes on average, from half to one and a half of it")
	flags.Bool("no-progress", false, "Send no callbacks about tasks in progress")
	flags.String("lose", "", "The share of callbacks that are never sent")
	flags.String("duplicate", "", "The share of final callbacks that are sent twice")
	flags.String("fail", "", "The share of tasks that fail")
	flags.String("forge", "", "The share of tasks about which a stranger sends a callback too, which is not true")
	flags.Bool("s3", false, "Give images of avatars s3:// URLs, as Fotor sometimes does")
	flags.String("429", "", "The share of questions that are answered 429")
	flags.String("limit", "", "The most questions in a time, such as 2/s or 30/m; those beyond are answered 429")
	flags.Duration("retry-after", 0, "The header Retry-After of answers 429")
	flags.Uint64("seed", 0, "Decides what happens by chance; by chance unless given")
	flags.BoolP("quiet", "q", false, "Print the summary only")
	completeNothing(cmd, "listen", "callback", "key", "delay", "lose", "duplicate", "fail", "forge", "429", "limit", "retry-after", "seed")
	addOutgoingFlags(cmd)
	return env.localCommand(cmd, func(ctx context.Context, s *session, _ []string) error {
		plan, err := env.mockPlan(cmd)
		if err != nil {
			return err
		}
		return newPlayer(s, plan).play(ctx)
	})
}

// mockPlan is how Fotor is played.
type mockPlan struct {
	mock.Config
	listen string
	out    *outgoing // nil: no callbacks
	quiet  bool
}

func (env *environment) mockPlan(cmd *cobra.Command) (*mockPlan, error) {
	flags := cmd.Flags()
	p := new(mockPlan)
	p.listen, _ = flags.GetString("listen")
	p.NoProgress, _ = flags.GetBool("no-progress")
	p.S3, _ = flags.GetBool("s3")
	p.Seed, _ = flags.GetUint64("seed")
	p.quiet, _ = flags.GetBool("quiet")
	if _, port, err := net.SplitHostPort(p.listen); err != nil || !isPort(port) {
		return nil, fmt.Errorf("--listen %q: expected an address and a port, such as %s", p.listen, mockAddress)
	}
	for _, share := range []struct {
		flag string
		of   *float64
	}{{"lose", &p.Lose}, {"duplicate", &p.Duplicate}, {"fail", &p.Fail}, {"forge", &p.Forge}, {"429", &p.TooOften}} {
		value, _ := flags.GetString(share.flag)
		if !flags.Changed(share.flag) {
			continue
		}
		var err error
		if *share.of, err = parseShare(share.flag, value); err != nil {
			return nil, err
		}
	}
	if flags.Changed("limit") {
		value, _ := flags.GetString("limit")
		limit, err := parseRate("limit", value)
		if err != nil {
			return nil, err
		}
		p.Limit = float64(limit)
	}
	if err := p.durations(cmd); err != nil {
		return nil, err
	}
	if key, _ := flags.GetString("key"); flags.Changed("key") {
		var err error
		if p.Key, err = secret.Resolve(key); err != nil {
			return nil, fmt.Errorf("--key: %w", err)
		}
		if p.Key == "" {
			return nil, errors.New("--key is empty: expected the key to accept; without --key any is")
		}
	}
	return p, p.callbacks(cmd)
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

func (p *mockPlan) durations(cmd *cobra.Command) error {
	p.Delay, _ = cmd.Flags().GetDuration("delay")
	p.RetryAfter, _ = cmd.Flags().GetDuration("retry-after")
	switch {
	case p.Delay < 0 || p.Delay > 30*24*time.Hour:
		return fmt.Errorf("--delay %s: expected 0 to 720h", p.Delay)
	case p.RetryAfter < 0:
		return fmt.Errorf("--retry-after %s: expected 0 or more", p.RetryAfter)
	case p.Delay == 0:
		p.Delay = -1 // none
	}
	return nil
}

// callbacks reads the flags about callbacks.
func (p *mockPlan) callbacks(cmd *cobra.Command) (err error) {
	flags := cmd.Flags()
	if flags.Changed("callback") {
		p.Callback, _ = flags.GetString("callback")
		p.out, err = outgoingFlags(cmd, "--callback ", p.Callback)
		return err
	}
	for _, name := range []string{"no-progress", "lose", "duplicate", "forge", "header", "resolve", "insecure", "timeout"} {
		if flags.Changed(name) {
			return fmt.Errorf("--%s is about callbacks: expected --callback with the URL that gets them", name)
		}
	}
	return nil
}

// parseShare parses a share such as 10%, 1/20 or 0.05.
func parseShare(flag, value string) (float64, error) {
	number, divisor, share := value, 1.0, 0.0
	var err error
	if percent, found := strings.CutSuffix(value, "%"); found {
		number, divisor = percent, 100
	} else if counter, denominator, found := strings.Cut(value, "/"); found {
		number = counter
		divisor, err = strconv.ParseFloat(denominator, 64)
	}
	if err == nil {
		share, err = strconv.ParseFloat(number, 64)
		share /= divisor
	}
	if err != nil || !(share >= 0 && share <= 1) {
		return 0, fmt.Errorf("--%s %q: expected a share from 0 to 1, such as 10%%, 1/20 or 0.05", flag, value)
	}
	return share, nil
}

// loopback reports whether only this machine reaches what listens at an address.
func loopback(address net.Addr) bool {
	at, err := netip.ParseAddrPort(address.String())
	return err == nil && at.Addr().IsLoopback()
}

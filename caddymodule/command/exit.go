package command

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// The exit codes. Caddy itself uses 2 and 3.
const (
	exitDone     = 0
	exitFailed   = 1
	exitNotFound = 4
	exitNo       = 5
)

// exitHelp lists the exit codes in the help of a command.
const exitHelp = `
Exit codes:
  0  done
  1  failed: bad usage, no answer from the admin endpoint, an error of the server
  4  not found
  5  the answer is no
`

// exitHelpNo is exitHelp for a command that can answer no, with what that means.
func exitHelpNo(meaning string) string {
	return fmt.Sprintf(`
Exit codes:
  0  done
  1  failed: bad usage, no answer, an error of the server
  4  not found
  5  the answer is no: %s
`, meaning)
}

// exitError ends the command with a code. Its cause is nil if there is nothing left to
// print.
type exitError struct {
	code  int
	cause error
}

func (e *exitError) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.cause.Error()
}

func (e *exitError) Unwrap() error { return e.cause }

// exitQuietly returns an error that ends the command with a code and prints nothing; nil
// for 0.
func exitQuietly(code int) error {
	if code == exitDone {
		return nil
	}
	return &exitError{code: code}
}

// worse returns the code to end with after several results: the lowest that is not 0, so
// that a no never hides a failure.
func worse(a, b int) int {
	if a == exitDone || (b != exitDone && b < a) {
		return b
	}
	return a
}

// exitCode returns the code that belongs to an error.
func exitCode(err error) int {
	var exit *exitError
	var status *statusError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &status):
		switch status.status {
		case http.StatusNotFound:
			return exitNotFound
		case http.StatusConflict, http.StatusUnprocessableEntity:
			return exitNo
		}
	}
	return exitFailed
}

// action is what a command does in its session.
type action func(ctx context.Context, s *session, args []string) error

// run returns the function of a cobra command that runs an action: in a session that
// begin makes from the flags, with a context that ends on Ctrl-C. It prints the error
// to stderr and ends with its exit code.
func (env *environment) run(begin func(*cobra.Command) (*session, error), do action) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if env.ignoreSIGPIPE {
			// then a write to a closed pipe returns an error, and the command ends quietly
			signal.Ignore(syscall.SIGPIPE)
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		// the second Ctrl-C kills the process, should the first have no effect
		context.AfterFunc(ctx, stop)

		s, err := begin(cmd)
		if err == nil {
			err = do(ctx, s, args)
		}
		if writeErr := env.stdout.err; writeErr != nil && (err == nil || errors.Is(err, writeErr)) {
			if closedPipe(writeErr) {
				return nil
			}
			err = fmt.Errorf("writing the output: %w", writeErr)
		}
		return env.end(ctx, cmd, err)
	}
}

// end prints what went wrong, and returns the error with which Caddy exits with the
// right code.
func (env *environment) end(ctx context.Context, cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	code := exitCode(err)
	var exit *exitError
	if !errors.As(err, &exit) || exit.cause != nil {
		message := err.Error()
		if ctx.Err() != nil {
			message = "interrupted"
		}
		fmt.Fprintln(env.stderr, "Error: "+escapeText(message))
	}
	cmd.SilenceErrors = true
	if code == exitFailed {
		return err
	}
	// only Caddy's own wrapper can make an error with a code
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
		return code, nil
	})(cmd, nil)
}

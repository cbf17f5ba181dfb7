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

// The exit codes. 2 and 3 are Caddy's own.
const (
	exitDone     = 0
	exitFailed   = 1
	exitNotFound = 4
	exitNo       = 5
)

// exitHelp is in the help of every command, followed by what 5 means for it.
const exitHelp = `
Exit codes:
  0  done
  1  failed: bad usage, no answer from the admin endpoint, an error of the server
  4  not found
  5  the answer is no
`

// exitHelpNo is exitHelp where the command can answer no.
func exitHelpNo(meaning string) string {
	return fmt.Sprintf(`
Exit codes:
  0  done
  1  failed: bad usage, no answer, an error of the server
  4  not found
  5  the answer is no: %s
`, meaning)
}

// exitError ends the command with a code. Its cause is nil if everything has
// been said already.
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

// said ends the command with a code and no more words; 0 is no error.
func said(code int) error {
	if code == exitDone {
		return nil
	}
	return &exitError{code: code}
}

// worse returns the code to end with after several results: of those that are
// not 0 the lowest, so that a failure is never hidden by a mere no.
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

// run makes an action the function of a cobra command: in a session that begin
// makes of the flags, with a context that ends on Ctrl-C, its error on stderr, and
// its exit code.
func (env *environment) run(begin func(*cobra.Command) (*session, error), do action) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if env.ignoreSIGPIPE {
			// a closed pipe is then an error of the write, which ends quietly
			signal.Ignore(syscall.SIGPIPE)
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		// the second Ctrl-C kills, should the first not be heeded
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

// end says what went wrong, and returns the error that makes Caddy exit with
// the right code.
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
	// only Caddy's own wrapper can make an error that its main takes a code from
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
		return code, nil
	})(cmd, nil)
}

package command

import (
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"golang.org/x/term"
)

// environment is what a command uses of its surroundings. Tests replace it.
type environment struct {
	stdin  io.Reader
	stdout *output
	stderr io.Writer

	// whether these are terminals
	stdinTerminal, stdoutTerminal, stderrTerminal bool

	// terminalWidth returns how many characters a line of stdout has; 0 if that is unknown.
	terminalWidth func() int

	getenv        func(string) string
	now           func() time.Time
	zone          *time.Location
	random        io.Reader
	ignoreSIGPIPE bool

	// transport, unless nil, makes all requests, in place of the network.
	transport http.RoundTripper

	// pause waits for that time, or returns the context's error if that ends first.
	pause func(context.Context, time.Duration) error
}

func systemEnvironment() *environment {
	return &environment{
		stdin:          os.Stdin,
		stdout:         &output{w: os.Stdout},
		stderr:         os.Stderr,
		stdinTerminal:  isTerminal(os.Stdin),
		stdoutTerminal: isTerminal(os.Stdout),
		stderrTerminal: isTerminal(os.Stderr),
		terminalWidth:  terminalWidth,
		getenv:         os.Getenv,
		now:            time.Now,
		zone:           time.Local,
		random:         rand.Reader,
		ignoreSIGPIPE:  true,
		pause:          pause,
	}
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

func terminalWidth() int {
	width, _, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// The width of lines: what a terminal has that does not tell, and what is believed of
// COLUMNS.
const (
	defaultWidth = 80
	maxWidth     = 10_000
)

// lineWidth returns how many characters wide lines for people may be, 0 for any number:
// what COLUMNS says, or else what the terminal has. Without a terminal it is COLUMNS that
// tells, as it does under watch(1).
func (env *environment) lineWidth() int {
	if width, err := strconv.Atoi(env.getenv("COLUMNS")); err == nil && width > 0 && width <= maxWidth {
		return width
	}
	if !env.stdoutTerminal {
		return 0
	}
	if width := env.terminalWidth(); width > 0 {
		return width
	}
	return defaultWidth
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// output is standard output. It remembers the first error, so that not every print has
// to be checked: loops check err, and so does the end of the command.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.w.Write(p)
	o.err = err
	return n, err
}

package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
)

// canAsk reports whether there is a terminal to ask on.
func (s *session) canAsk() bool { return s.stdinTerminal && s.stderrTerminal }

// confirm asks on stderr and reads the answer from stdin. Anything but a yes means no,
// which is an error that ends the command.
func (s *session) confirm(ctx context.Context, question string) error {
	fmt.Fprint(s.stderr, escapeText(question)+" [y/N] ")
	type reply struct {
		text string
		err  error
	}
	// the context does not end a read from a terminal
	replies := make(chan reply, 1)
	go func() {
		text, err := bufio.NewReader(s.stdin).ReadString('\n')
		replies <- reply{text, err}
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(s.stderr)
		return ctx.Err()
	case r := <-replies:
		if r.err != nil && !errors.Is(r.err, io.EOF) {
			return fmt.Errorf("reading the answer: %w", r.err)
		}
		switch strings.ToLower(strings.TrimSpace(r.text)) {
		case "y", "yes":
			return nil
		}
		s.note("Nothing was changed.")
		return exitQuietly(exitFailed)
	}
}

// bar is a progress bar on stderr. It appears with the first progress, so that it does not
// show for what is done at once.
type bar struct {
	session *session
	tracker *progress.Tracker
	done    chan struct{} // closed when it has been drawn for the last time; nil before it appears
}

func (s *session) newBar(message string, total int64) *bar {
	return &bar{session: s, tracker: &progress.Tracker{Message: message, Total: total}}
}

func (b *bar) set(value int64) {
	if b.done == nil {
		b.appear()
	}
	b.tracker.SetValue(min(value, b.tracker.Total-1)) // at its total it would end by itself
}

func (b *bar) appear() {
	w := progress.NewWriter()
	w.SetOutputWriter(b.session.stderr)
	w.SetAutoStop(true)
	w.SetUpdateFrequency(100 * time.Millisecond)
	w.Style().Options.TimeInProgressPrecision = time.Second
	w.Style().Visibility.ETA = true
	w.AppendTracker(b.tracker)
	b.done = make(chan struct{})
	go func() {
		defer close(b.done)
		w.Render()
	}()
}

// end draws the bar for the last time.
func (b *bar) end(well bool) {
	if b.done == nil {
		return
	}
	if well {
		b.tracker.MarkAsDone()
	} else {
		b.tracker.MarkAsErrored()
	}
	<-b.done
}

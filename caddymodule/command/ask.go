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
	value   int64
	done    chan struct{} // closed when it has been drawn for the last time; nil before it appears
}

func (s *session) newBar(message string, total int64) *bar {
	return &bar{session: s, tracker: &progress.Tracker{Message: message, Total: total}}
}

func (b *bar) set(value int64) {
	if b.done == nil {
		b.appear()
	}
	b.value = value
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
		b.tracker.SetValue(b.value)
		b.tracker.MarkAsDone()
	} else {
		b.tracker.MarkAsErrored()
	}
	<-b.done
}

// reportEvery is how often a progress is told where there is no terminal.
const reportEvery = 10 * time.Second

// progressOf shows how far a change of many is: with a bar on a terminal, otherwise with
// a line from time to time.
type progressOf struct {
	session *session
	done    string // what is done, such as "replayed"
	bar     *bar   // nil without a terminal
	next    time.Time
}

// newProgress begins to show a progress. total is 0 if it is not known.
func (s *session) newProgress(done string, total int64) *progressOf {
	p := &progressOf{session: s, done: done, next: s.now().Add(reportEvery)}
	if s.stderrTerminal && total > 0 {
		p.bar = s.newBar(done, total)
		p.bar.tracker.Units.Formatter = func(value int64) string { return count(value) + " of " + count(total) }
	}
	return p
}

func (p *progressOf) set(value int64) {
	if p.bar != nil {
		p.bar.set(value)
	} else if now := p.session.now(); !now.Before(p.next) {
		p.next = now.Add(reportEvery)
		p.session.note("%s %s so far", count(value), p.done)
	}
}

// end shows the last value, unless it was done at once.
func (p *progressOf) end(value int64, well bool) {
	if p.bar != nil {
		p.bar.value = max(value, p.bar.value)
		p.bar.end(well)
	}
}

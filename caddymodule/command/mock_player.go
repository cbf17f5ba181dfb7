package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/fotor-webhook/caddy-fotor-webhook/fotorapi/mock"
)

// player plays Fotor, and prints what happens.
type player struct {
	*session
	plan *mockPlan
	stop context.CancelFunc
	err  error // why nothing more can be printed
}

func newPlayer(s *session, plan *mockPlan) *player { return &player{session: s, plan: plan} }

// mockCallbacks is how many callbacks are sent at once.
const mockCallbacks = mock.DefaultConcurrency

func (p *player) play(ctx context.Context) error {
	config := p.plan.Config
	if p.plan.out != nil {
		config.Client, config.Prepare = p.plan.out.client(p.transport, mockCallbacks), p.plan.out.complete
	}
	ctx, p.stop = context.WithCancel(ctx)
	defer p.stop()
	config.Log = p.log
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", p.plan.listen)
	if err != nil {
		return fmt.Errorf("--listen %s: %w", p.plan.listen, err)
	}
	fotor, err := mock.New(config)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	p.begin(listener.Addr())
	server := &http.Server{
		Handler:           fotor,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          log.New(noteWriter{p.session}, "", 0),
	}
	closed := context.AfterFunc(ctx, func() { server.Close() })
	defer closed()
	if err = server.Serve(listener); errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	fotor.Close()
	if err != nil || p.err != nil {
		return errors.Join(err, p.err)
	}
	return p.end(fotor)
}

// noteWriter makes notes of the lines of a logger.
type noteWriter struct{ s *session }

// Write implements io.Writer.
func (w noteWriter) Write(line []byte) (int, error) {
	w.s.note("%s", strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}

// begin says what is played, and what to mind.
func (p *player) begin(address net.Addr) {
	p.note("Playing Fotor at http://%s. Ctrl-C ends it.", address)
	if p.plan.out == nil {
		p.note("No callbacks are sent: that needs --callback.")
	} else {
		p.note("Callbacks go to %s", withoutUser(p.plan.Callback))
	}
	if !loopback(address) {
		p.note("Note that other machines can reach it: whoever does can submit tasks, and have callbacks sent.")
	}
	if p.plan.out != nil {
		p.plan.out.warn(p.session)
	}
}

// log prints what happened. The server calls it once at a time.
func (p *player) log(e mock.Entry) {
	if p.plan.quiet || p.err != nil {
		return
	}
	e.At = p.now().UTC()
	if p.json {
		p.err = p.printEntry(&e)
	} else {
		_, p.err = p.stdout.Write([]byte(p.line(p.entryLine(&e)) + "\n"))
	}
	if p.err != nil {
		p.stop()
	}
}

func (p *player) printEntry(e *mock.Entry) error {
	line, err := json.Marshal(struct {
		*mock.Entry
		DurationMS float64 `json:"durationMs,omitempty"`
	}{e, float64(e.Took.Microseconds()) / 1000})
	if err != nil {
		return err
	}
	return p.printLine(line)
}

// entryLine formats what happened for people. On a terminal of 80 columns only the type is
// cut off.
func (p *player) entryLine(e *mock.Entry) string {
	task := cut(e.TaskID, 48)
	if p.stdoutTerminal && e.Kind != mock.Submitted { // that one can be copied
		task = cut(e.TaskID, 16)
	}
	kind := string(e.Kind)
	if e.Repeat {
		kind = "repeated"
	}
	parts := []string{e.At.In(p.zone).Format("15:04:05.000"), p.paint(fmt.Sprintf("%-9s", kind), entryColor(e)), task}
	switch e.Kind {
	case mock.Called, mock.Forged:
		parts = append(parts, fmt.Sprintf("%-11s", e.Status), "→ "+p.callbackAnswer(e))
	case mock.Lost:
		parts = append(parts, fmt.Sprintf("%-11s", e.Status), "not sent")
	case mock.Asked:
		if e.TaskID == "" {
			parts[2] = "credits"
		}
		if e.Status != "" {
			parts = append(parts, fmt.Sprintf("%-11s", e.Status))
		}
	case mock.Refused:
		if e.HTTPStatus != 0 {
			parts = append(parts, httpStatus(e.HTTPStatus))
		}
	case mock.Submitted:
	}
	if e.Error != "" && e.Kind != mock.Called && e.Kind != mock.Forged {
		parts = append(parts, cut(e.Error, 80))
	}
	if e.Type != "" {
		parts = append(parts, cut(e.Type, 32))
	}
	parts = slices.DeleteFunc(parts, func(part string) bool { return part == "" })
	return strings.TrimRight(strings.Join(parts, "  "), " ")
}

func (p *player) callbackAnswer(e *mock.Entry) string {
	if e.Error != "" {
		return p.paint(cut(e.Error, 80), text.FgRed)
	}
	return p.paint(httpStatus(e.HTTPStatus), acceptedColor(e.HTTPStatus == http.StatusOK)) + fmt.Sprintf(" in %-8s", latency(e.Took))
}

func entryColor(e *mock.Entry) text.Color {
	switch e.Kind {
	case mock.Submitted:
		return text.FgCyan
	case mock.Called:
		return acceptedColor(e.HTTPStatus == http.StatusOK)
	case mock.Lost, mock.Forged:
		return text.FgYellow
	case mock.Refused:
		return text.FgRed
	default:
		return text.Faint
	}
}

// end prints the summary.
func (p *player) end(fotor *mock.Server) error {
	c := fotor.Counts()
	most := fotor.Most(time.Second)
	if p.json {
		line, err := json.Marshal(struct {
			Summary any `json:"summary"`
		}{mockSummary{
			Submitted: c.Submitted, Failed: c.Failed, Questions: byStatus(c.Questions), MostQuestions: most,
			Callbacks: byStatus(c.Callbacks), Repeated: c.Repeated, Forged: c.Forged, Lost: c.Lost, Seed: fotor.Seed(),
		}})
		if err != nil {
			return err
		}
		return p.printLine(line)
	}
	f := &fields{printer: p.printer}
	f.add("Tasks", fmt.Sprintf("%s submitted, %s of them fail", count(c.Submitted), count(c.Failed)))
	if p.plan.out != nil {
		f.add("Callbacks", fmt.Sprintf("%s sent, %s of them repeated, %s forged; %s lost", count(total(c.Callbacks)), count(c.Repeated), count(c.Forged), count(c.Lost)))
		p.addStatuses(f, c.Callbacks, "no answer")
	}
	f.add("Questions", fmt.Sprintf("%s, at most %s in a second", count(total(c.Questions)), count(int64(most))))
	p.addStatuses(f, c.Questions, "not answered")
	f.add("Seed", strconv.FormatUint(fotor.Seed(), 10))
	out := f.String()
	if !p.plan.quiet {
		out = "\n" + out
	}
	p.print(out)
	return nil
}

func (p *player) addStatuses(f *fields, statuses map[int]int64, none string) {
	for _, status := range slices.Sorted(maps.Keys(statuses)) {
		name := "  HTTP " + strconv.Itoa(status)
		if status == 0 {
			name = "  " + none
		}
		f.add(name, p.paint(count(statuses[status]), acceptedColor(status == http.StatusOK)))
	}
}

// mockSummary is the last line of --json.
type mockSummary struct {
	Submitted     int64            `json:"submitted"`
	Failed        int64            `json:"failed"`
	Callbacks     map[string]int64 `json:"callbacks"`
	Repeated      int64            `json:"repeated"`
	Forged        int64            `json:"forged"`
	Lost          int64            `json:"lost"`
	Questions     map[string]int64 `json:"questions"`
	MostQuestions int              `json:"mostQuestionsPerSecond"`
	Seed          uint64           `json:"seed"`
}

func byStatus(counts map[int]int64) map[string]int64 {
	named := make(map[string]int64, len(counts))
	for status, n := range counts {
		named[strconv.Itoa(status)] = n
	}
	return named
}

func total(counts map[int]int64) (sum int64) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/time/rate"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/sample"
)

// maxReply bounds how much of an answer is read.
const maxReply = 1 << 20

// sender sends the callbacks of a plan. Its memory does not grow with their number.
type sender struct {
	*session
	plan    *sendPlan
	http    *http.Client
	limiter *rate.Limiter

	mu      sync.Mutex
	started int   // tasks begun
	err     error // the error that ended a worker
	summary summary
}

func newSender(s *session, plan *sendPlan) *sender {
	return &sender{
		session: s, plan: plan, limiter: rate.NewLimiter(plan.limit, 1),
		http:    plan.client(s.transport, plan.concurrency),
		summary: newSummary(),
	}
}

func (s *sender) send(ctx context.Context) error {
	begun := s.now()
	var workers sync.WaitGroup
	for range min(s.plan.concurrency, s.plan.repeat) {
		workers.Go(func() { s.work(ctx) })
	}
	workers.Wait()
	s.http.CloseIdleConnections()
	if s.err != nil {
		return s.err
	}
	s.summary.elapsed = s.now().Sub(begun)
	if s.json {
		line, err := json.Marshal(s.summary.document())
		if err != nil {
			return err
		}
		if err := s.printLine(line); err != nil {
			return err
		}
	} else {
		s.print(s.summary.text(s.printer, s.plan.quiet))
	}
	if s.summary.foreign > 0 {
		s.note(foreignHint, plural(s.summary.foreign, "answer"))
	}
	return exitQuietly(s.summary.code())
}

// work sends tasks, one after the other, until none is left.
func (s *sender) work(ctx context.Context) {
	for ctx.Err() == nil && s.take() {
		if err := s.task(ctx); err != nil {
			if ctx.Err() == nil {
				s.fail(err)
			}
			return
		}
	}
}

// take begins a task, and reports whether there was one left.
func (s *sender) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.started == s.plan.repeat {
		return false
	}
	s.started++
	return true
}

func (s *sender) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// task sends all callbacks of a task, each when the one before has been answered.
func (s *sender) task(ctx context.Context) error {
	task, business, err := s.newTask()
	if err != nil {
		return err
	}
	for _, status := range s.plan.statuses {
		body := s.plan.file
		if body == nil {
			if body, err = s.callback(task, business, status); err != nil {
				return err
			}
		}
		if err := s.limiter.Wait(ctx); err != nil {
			return err
		}
		reply, err := s.post(ctx, body)
		if err != nil {
			return err
		}
		reply.TaskID = task
		if err := s.record(reply); err != nil {
			return err
		}
	}
	return nil
}

func (s *sender) newTask() (task, business string, err error) {
	if s.plan.file != nil {
		return "", "", nil
	}
	s.mu.Lock() // a test's source of randomness is not safe for concurrent use
	defer s.mu.Unlock()
	task, business, err = sample.NewTask(s.random)
	if s.plan.task != "" {
		task = s.plan.task
	}
	return task, business, err
}

func (s *sender) callback(task, business string, status int) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	object, err := s.plan.kind.Make(s.random, s.now(), task, business, status)
	if err != nil {
		return nil, err
	}
	return object.JSON()
}

// post sends one callback. It only returns an error if the context has ended.
func (s *sender) post(ctx context.Context, body []byte) (*reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.plan.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "caddy-fotor-webhook-send")
	s.plan.complete(req)
	begun := s.now()
	got, err := s.do(req)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	r := &reply{took: s.now().Sub(begun)}
	if err != nil {
		r.Error = noAnswer(err)
	} else {
		r.judge(got)
	}
	r.DurationMS = float64(r.took.Microseconds()) / 1000
	return r, nil
}

func (s *sender) do(req *http.Request) (received, error) {
	resp, err := s.http.Do(req) //nolint:gosec // the user says where to send
	if err != nil {
		return received{}, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return received{}, errors.New("the answer broke off: " + err.Error())
	}
	return received{resp.StatusCode, resp.Header, answer}, nil
}

// record counts a reply and prints it.
func (s *sender) record(r *reply) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Number = s.summary.add(r)
	switch {
	case s.plan.quiet:
		return s.stdout.err
	case s.json:
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		return s.printLine(line)
	}
	_, err := s.stdout.Write([]byte(s.printer.line(s.line(r)) + "\n"))
	return err
}

func (s *sender) line(r *reply) string {
	status := s.paint("-  ", text.FgRed)
	if r.HTTPStatus != 0 {
		status = s.paint(httpStatus(r.HTTPStatus), acceptedColor(r.Accepted))
	}
	parts := []string{fmt.Sprintf("%6d", r.Number), status, fmt.Sprintf("%8s", latency(r.took))}
	switch {
	case r.Error != "":
		parts = append(parts, quoted(r.Error))
	case r.Answer.Duplicate:
		parts = append(parts, s.shownID(r.Answer.ID), "duplicate")
	case r.Answer.ID != "":
		parts = append(parts, s.shownID(r.Answer.ID))
	case r.Answer.Title != "":
		parts = append(parts, quoted(r.Answer.Title)+pointers(r.Answer.Errors))
	}
	return strings.TrimRight(strings.Join(parts, "  "), " ")
}

// maxPointers is how many problems of an answer are printed.
const maxPointers = 10

// pointers lists the problems of an answer.
func pointers(problems []control.Problem) string {
	if len(problems) == 0 {
		return ""
	}
	shown := problems[:min(len(problems), maxPointers)]
	texts := make([]string, 0, len(shown)+1)
	for _, p := range shown {
		texts = append(texts, cut(problem(p), 160))
	}
	if more := len(problems) - len(shown); more > 0 {
		texts = append(texts, fmt.Sprintf("%d more", more))
	}
	return ": " + strings.Join(texts, "; ")
}

func acceptedColor(accepted bool) text.Color {
	if accepted {
		return text.FgGreen
	}
	return text.FgRed
}

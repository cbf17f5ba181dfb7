package mock

import (
	"bytes"
	"container/heap"
	"errors"
	"io"
	random "math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// job is a callback that is due at a time.
type job struct {
	at     time.Time
	kind   EntryKind // Called, Forged, or Lost: then it is not sent
	object *Object
	repeat bool
}

// jobs is a heap of jobs, the first due on top.
type jobs []*job

func (j jobs) Len() int           { return len(j) }
func (j jobs) Less(a, b int) bool { return j[a].at.Before(j[b].at) }
func (j jobs) Swap(a, b int)      { j[a], j[b] = j[b], j[a] }

// Push implements heap.Interface.
func (j *jobs) Push(x any) { *j = append(*j, x.(*job)) }

// Pop implements heap.Interface.
func (j *jobs) Pop() any {
	last := len(*j) - 1
	x := (*j)[last]
	(*j)[last] = nil
	*j = (*j)[:last]
	return x
}

// plan makes the callbacks of a task.
func (s *Server) plan(t *task, chance *random.Rand) {
	var planned []*job
	takes := t.finished.Sub(t.created)
	within := func() time.Duration { return time.Duration(chance.Float64() * float64(takes)) }
	kind := map[bool]EntryKind{true: Lost, false: Called}
	if !s.config.NoProgress {
		planned = append(planned, &job{at: t.created.Add(takes / 10), kind: kind[t.lostProgress], object: t.progress()})
	}
	planned = append(planned, &job{at: t.finished, kind: kind[t.lost], object: t.outcome})
	if t.duplicated {
		again := *t.outcome
		after := within()
		if chance.IntN(2) == 0 {
			again.UpdateTime += max(1, after.Milliseconds())
		}
		planned = append(planned, &job{at: t.finished.Add(after), kind: Called, object: &again, repeat: true})
	}
	if t.forgery != nil {
		planned = append(planned, &job{at: t.created.Add(within()), kind: Forged, object: t.forgery})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == 0 {
		s.idle = make(chan struct{})
	}
	s.waiting += len(planned)
	for _, j := range planned {
		heap.Push(&s.jobs, j)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// schedule hands out jobs when they are due.
func (s *Server) schedule() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next, wait := s.next()
		if next != nil {
			select {
			case s.due <- next:
			case <-s.ended.Done():
				return
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-s.wake:
		case <-s.ended.Done():
			return
		}
	}
}

// next returns a job that is due, or how long it takes until there is one.
func (s *Server) next() (*job, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.jobs) == 0 {
		return nil, time.Hour
	}
	if wait := time.Until(s.jobs[0].at); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&s.jobs).(*job), 0
}

// work does jobs that are due.
func (s *Server) work() {
	for {
		select {
		case j := <-s.due:
			s.do(j)
			s.mu.Lock()
			if s.waiting--; s.waiting == 0 {
				close(s.idle)
			}
			s.mu.Unlock()
		case <-s.ended.Done():
			return
		}
	}
}

func (s *Server) do(j *job) {
	entry := &Entry{Kind: j.kind, TaskID: j.object.TaskID, Type: j.object.Type, Status: statusName(j.object.Status), Repeat: j.repeat}
	if j.kind != Lost {
		begun := time.Now()
		status, err := s.call(j.object)
		entry.Took = time.Since(begun)
		if s.ended.Err() != nil {
			return
		}
		entry.HTTPStatus = status
		if err != nil {
			entry.Error = err.Error()
		}
	}
	s.mu.Lock()
	s.counts.call(entry)
	s.mu.Unlock()
	s.log(entry)
}

// maxReply is how much is read of the answer to a callback.
const maxReply = 64 << 10

// call sends a callback, and returns the status of the answer.
func (s *Server) call(o *Object) (status int, err error) {
	body, err := o.JSON()
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(s.ended, http.MethodPost, s.config.Callback, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "caddy-fotor-webhook-mock")
	if s.config.Prepare != nil {
		s.config.Prepare(req)
	}
	resp, err := s.config.Client.Do(req) //nolint:gosec // the config says where to send
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // the URL is known
		}
		return 0, errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxReply)) // the status counts
	return resp.StatusCode, nil
}

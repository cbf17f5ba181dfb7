package mock

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxSubmission is the most bytes of a submission.
const maxSubmission = 256 << 20

// answered is a request to the API and what it was answered, for the log.
type answered struct {
	Entry
	question bool
}

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/aiart/{product}", s.api(s.submit))
	mux.HandleFunc("GET /v1/aiart/tasks/{task}", s.api(s.task))
	mux.HandleFunc("GET /v1/credits", s.api(s.credits))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		status := writeCode(w, http.StatusNotFound, "404", "no such path", nil)
		s.log(&Entry{Kind: Refused, HTTPStatus: status, Error: "no such path: " + r.Method + " " + r.URL.Path})
	})
	return mux
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// api is what all calls have in common.
func (s *Server) api(call func(http.ResponseWriter, *http.Request, *answered) int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a := &answered{question: r.Method == http.MethodGet}
		if a.question {
			a.TaskID = r.PathValue("task")
			s.mu.Lock()
			s.question(time.Now())
			s.mu.Unlock()
		}
		fault := s.meet(r)
		switch refusal := s.refuse(r, a); {
		case refusal != 0:
			a.Kind = Refused
			if refusal == http.StatusTooManyRequests && s.config.RetryAfter > 0 {
				w.Header().Set("Retry-After", strconv.FormatInt(int64(math.Ceil(s.config.RetryAfter.Seconds())), 10))
			}
			a.HTTPStatus = writeCode(w, refusal, strconv.Itoa(refusal), a.Error, nil)
		case fault.Kind != NoFault:
			a.Kind, a.Error = Refused, "fault: "+string(fault.Kind)
			if fault.Kind != Down {
				a.HTTPStatus = fault.answer(w)
			}
		default:
			a.HTTPStatus = call(w, r, a)
		}
		s.told(a)
		if fault.Kind == Down || fault.Kind == CutOff {
			panic(http.ErrAbortHandler)
		}
	}
}

// told counts and logs what a request was answered.
func (s *Server) told(a *answered) {
	if a.question {
		s.mu.Lock()
		if s.counts.Questions == nil {
			s.counts.Questions = make(map[int]int64)
		}
		s.counts.Questions[a.HTTPStatus]++
		s.mu.Unlock()
	}
	if a.Kind != Submitted { // which is logged before its callbacks
		s.log(&a.Entry)
	}
}

// refuse returns the status with which a request is refused, 0 if it is not.
func (s *Server) refuse(r *http.Request, a *answered) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case !found || key == "":
		a.Error = "no key"
		return http.StatusUnauthorized
	case s.key != "" && key != s.key:
		a.Error = "wrong key"
		return http.StatusUnauthorized
	case !a.question:
		return 0
	case s.limiter != nil && !s.limiter.Allow(), s.chance.Float64() < s.config.TooOften:
		a.Error = "too many requests"
		return http.StatusTooManyRequests
	}
	return 0
}

var productName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (s *Server) submit(w http.ResponseWriter, r *http.Request, a *answered) int {
	product := r.PathValue("product")
	if !productName.MatchString(product) {
		a.Kind, a.Error = Refused, "no such product: "+product
		return writeCode(w, http.StatusNotFound, "404", "no such product", nil)
	}
	read, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxSubmission+1))
	switch {
	case err != nil:
		a.Kind, a.Error = Refused, "the body broke off: "+err.Error()
		return writeCode(w, http.StatusBadRequest, "400", "bad request", nil)
	case read > maxSubmission:
		a.Kind, a.Error = Refused, "the body is larger than 256 MiB"
		return writeCode(w, http.StatusRequestEntityTooLarge, "413", "too large", nil)
	}
	a.Kind, a.TaskID = Submitted, s.Submit(product)
	if a.TaskID == "" {
		a.Kind, a.Error = Refused, "too many callbacks wait"
		return writeCode(w, http.StatusServiceUnavailable, "503", "too many callbacks wait", nil)
	}
	return writeCode(w, http.StatusOK, "000", "success", struct {
		TaskID string `json:"taskId"`
	}{a.TaskID})
}

func (s *Server) task(w http.ResponseWriter, _ *http.Request, a *answered) int {
	s.mu.Lock()
	t := s.tasks[a.TaskID]
	s.mu.Unlock()
	a.Kind = Asked
	if t == nil {
		a.Error = "no such task"
		return writeCode(w, http.StatusOK, "999", "unknown error", nil)
	}
	object := t.at(time.Now())
	a.Type, a.Status = t.kind.Type, statusName(object.Status)
	return writeCode(w, http.StatusOK, "000", "success", object)
}

func (s *Server) credits(w http.ResponseWriter, _ *http.Request, a *answered) int {
	const total = 10_000
	s.mu.Lock()
	used := s.counts.Submitted
	s.mu.Unlock()
	a.Kind = Asked
	return writeCode(w, http.StatusOK, "000", "success", struct {
		BusinessID string `json:"businessId"`
		Total      int64  `json:"total"`
		Remaining  int64  `json:"remaining"`
	}{s.business, total, max(0, total-used)})
}

// writeCode writes an answer of Fotor's form, and returns its status.
func writeCode(w http.ResponseWriter, status int, code, msg string, data any) int {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // Fotor does not escape the & of a URL
	_ = encoder.Encode(struct {  // an error is the client's, who has gone
		Code string `json:"code"`
		Msg  string `json:"msg"`
		Data any    `json:"data"`
	}{code, msg, data})
	return status
}

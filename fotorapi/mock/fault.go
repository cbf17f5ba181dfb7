package mock

import (
	"cmp"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// FaultKind is what is wrong with the answers to questions.
type FaultKind string

// The kinds of faults.
const (
	NoFault   FaultKind = ""
	Down      FaultKind = "down"       // connections are closed without an answer
	Status    FaultKind = "status"     // the answer is Fault.Status
	CutOff    FaultKind = "cut_off"    // the connection is closed in the middle of the answer
	NotJSON   FaultKind = "not_json"   // the answer is a page of HTML, with status 200
	Huge      FaultKind = "huge"       // the answer has 10 MB
	Redirect  FaultKind = "redirect"   // to Fault.Target
	Compress  FaultKind = "compressed" // the answer claims to be compressed
	WrongTask FaultKind = "wrong_task" // the answer is about another task
	NoTask    FaultKind = "no_task"    // the answer has the code "999"
)

// Fault is what is wrong with the API, so that it is unlike Fotor's.
type Fault struct {
	Kind FaultKind

	// Delay is how long each answer waits, also without a Kind.
	Delay time.Duration

	// Share is the share of questions that meet the Kind, 0 for all.
	Share float64

	// Status is that of Kind Status, 500 unless given, and Target the URL of Redirect.
	Status int
	Target string

	// Submissions have the fault too.
	Submissions bool
}

// SetFault makes something wrong with the API; Fault{} makes it well again.
func (s *Server) SetFault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// meet waits as the fault has it, and returns its kind for this request.
func (s *Server) meet(r *http.Request) Fault {
	s.mu.Lock()
	f := s.fault
	if r.Method == http.MethodPost && !f.Submissions {
		f = Fault{}
	}
	if f.Share > 0 && s.chance.Float64() >= f.Share {
		f.Kind = NoFault
	}
	s.mu.Unlock()
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		case <-s.ended.Done():
		}
	}
	return f
}

const hugeAnswer = 10 << 20

// answer answers as the fault has it, and returns the status.
func (f *Fault) answer(w http.ResponseWriter) int {
	switch f.Kind {
	case Status:
		status := cmp.Or(f.Status, http.StatusInternalServerError)
		return writeCode(w, status, strconv.Itoa(status), http.StatusText(status), nil)
	case NotJSON:
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><title>Maintenance</title>")
	case Huge:
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"code":"000","msg":"success","data":{"x":"`)
		part := strings.Repeat("x", 64<<10)
		for sent := 0; sent < hugeAnswer; sent += len(part) {
			if _, err := io.WriteString(w, part); err != nil {
				break
			}
		}
		_, _ = io.WriteString(w, `"}}`)
	case Redirect:
		w.Header().Set("Location", f.Target)
		w.WriteHeader(http.StatusFound)
		return http.StatusFound
	case Compress:
		w.Header().Set("Content-Encoding", "br")
		return writeCode(w, http.StatusOK, "000", "success", nil)
	case WrongTask:
		return writeCode(w, http.StatusOK, "000", "success", &Object{TaskID: strings.Repeat("0", 32), Status: Completed, Type: "avatar"})
	case NoTask:
		return writeCode(w, http.StatusOK, "999", "unknown error", nil)
	case CutOff:
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, `{"code":"000","msg":"success","data":{"taskId":"`)
		_ = http.NewResponseController(w).Flush() // before the handler panics
	default:
	}
	return http.StatusOK
}

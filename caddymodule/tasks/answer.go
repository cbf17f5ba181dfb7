package tasks

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/mediatype"
	"github.com/fotor-webhook/caddy-fotor-webhook/metrics"
)

// maxAnswer is the size in bytes of the longest answer that is read. Fotor's to a
// submission has about a hundred.
const maxAnswer = 64 << 10

// answer is the ResponseWriter of a request that may submit a task. It holds up an answer
// that may name the task, and passes everything else on as it comes. Caddy's
// ResponseRecorder would do if it had a bound, and let go of an answer beyond that.
type answer struct {
	*caddyhttp.ResponseWriterWrapper // passes on what is not here: Push, and with Unwrap hijacking and deadlines
	*exchange

	state  state
	status int
	header http.Header // as it was when the status was written
	body   bytes.Buffer

	flushed bool // what is held up was to be flushed
}

// state is what is done with an answer.
type state uint8

const (
	undecided state = iota // its status has not been written
	passing                // it goes on as it comes
	held
)

// WriteHeader decides what is done with the answer. Informational ones go on.
func (a *answer) WriteHeader(status int) {
	switch {
	case a.state == held: // only the first counts
	case a.state == passing, status < 200 && status != http.StatusSwitchingProtocols:
		a.ResponseWriterWrapper.WriteHeader(status)
	case a.mayName(status, a.Header()):
		a.state, a.status, a.header = held, status, a.Header().Clone()
	default:
		a.pass()
		a.ResponseWriterWrapper.WriteHeader(status)
	}
}

// mayName reports whether an answer may name a task.
func (a *answer) mayName(status int, header http.Header) bool {
	if status < 200 || status > 299 || status == http.StatusNoContent || status == http.StatusResetContent {
		return false
	}
	if mediatype.Unsupported(http.Header{"Content-Type": header["Content-Type"]}) != "" {
		return false
	}
	length, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
	switch {
	case mediatype.Unsupported(header) != "":
		a.unread("it is compressed, although that was not asked for")
		return false
	case err == nil && length > maxAnswer:
		a.unread("it has more than 64 KiB")
		return false
	}
	return true
}

// unread tells that an answer is not read that may name a task.
func (a *answer) unread(why string) {
	a.handler.learnt.Add(metrics.LearntUnread, 1)
	a.handler.logger.Warn("answer not read: if it names a task, that is not known",
		zap.String("handler", a.handler.Name), zap.String("reason", why))
}

// pass lets everything go on from here.
func (a *answer) pass() {
	a.state = passing
	a.nothingToLearn()
}

// begun decides about an answer whose handler writes without a status.
func (a *answer) begun() {
	if a.state == undecided {
		a.WriteHeader(http.StatusOK)
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) {
	a.begun()
	if a.state == held && a.body.Len()+len(b) <= maxAnswer {
		return a.body.Write(b)
	}
	if err := a.tooLong(); err != nil {
		return 0, err
	}
	return a.ResponseWriterWrapper.Write(b)
}

// ReadFrom implements io.ReaderFrom, so that what passes may go from socket to socket.
func (a *answer) ReadFrom(r io.Reader) (n int64, err error) {
	a.begun()
	if a.state == held {
		room := int64(maxAnswer - a.body.Len())
		n, err = a.body.ReadFrom(io.LimitReader(r, room+1))
		if err != nil || n <= room {
			return n, err
		}
		if err := a.tooLong(); err != nil {
			return n, err
		}
	}
	more, err := a.ResponseWriterWrapper.ReadFrom(r)
	return n + more, err
}

// tooLong lets go of an answer that is held up.
func (a *answer) tooLong() error {
	if a.state != held {
		return nil
	}
	a.unread("it has more than 64 KiB")
	return a.release()
}

// FlushError implements what http.ResponseController asks for.
func (a *answer) FlushError() error {
	a.begun()
	if a.state == held {
		a.flushed = true
		return nil
	}
	return http.NewResponseController(a.ResponseWriter).Flush() //nolint:bodyclose // there is none
}

// finish ends the answer: what it names is stored, and then it goes on.
func (a *answer) finish() {
	if a.state != held {
		return
	}
	a.learn(a.body.Bytes())
	a.goOn()
}

// brokenOff passes on what has come of an answer that broke off, after which net/http
// breaks off the one to the client. It does nothing after finish.
func (a *answer) brokenOff() {
	if a.state == held {
		a.unread("it broke off")
		a.goOn()
	}
}

func (a *answer) goOn() {
	if err := a.release(); err != nil {
		a.handler.logger.Debug("answer not sent", zap.Error(err)) // the client has gone
	}
}

// release lets go of what is held up. The header is as it was when the status was written:
// what was set since then are trailers.
func (a *answer) release() error {
	a.pass()
	header, late := a.Header(), make(http.Header)
	for name, values := range header {
		if !slices.Equal(values, a.header[name]) {
			late[name] = values
			delete(header, name)
		}
	}
	maps.Copy(header, a.header)
	a.ResponseWriterWrapper.WriteHeader(a.status)
	defer maps.Copy(header, late)
	if a.body.Len() > 0 {
		if _, err := a.ResponseWriterWrapper.Write(a.body.Bytes()); err != nil {
			return err
		}
	}
	a.body = bytes.Buffer{}
	if a.flushed {
		return a.FlushError()
	}
	return nil
}

// Interface guards
var (
	_ http.ResponseWriter             = (*answer)(nil)
	_ io.ReaderFrom                   = (*answer)(nil)
	_ interface{ FlushError() error } = (*answer)(nil)
)

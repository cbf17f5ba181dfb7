package fotorwebhook

import (
	"errors"
	"io"
	"net/http"
	"time"
)

const (
	// lingerTime and lingerBytes bound how long a caller who was answered before
	// its body had come whole is listened to. A connection that is closed with
	// bytes unread is reset, and with it the answer may be lost.
	lingerTime  = 2 * time.Second
	lingerBytes = 64 << 20

	// resetDelay is how long the connection of a body that cannot be read any
	// more is left open after the answer, for the same reason; net/http has as much.
	resetDelay = 500 * time.Millisecond

	// smallRest is a declared body that is rather read than a connection closed
	// for it: proxies use theirs for many callers.
	smallRest = 64 << 10
)

// writeEarly sends an answer to a caller who may still be sending its body.
//
// net/http would read on before it sends the answer, up to 256 KiB and for as
// long as the server's timeouts let it. With HTTP/1 the answer goes out first,
// and the connection is closed; HTTP/2 and HTTP/3 end the stream after it.
func (a *answer) writeEarly(w http.ResponseWriter, r *http.Request, since time.Time) error {
	if r.ProtoMajor != 1 || r.ContentLength == 0 {
		return a.write(w)
	}
	until := time.Now().Add(lingerTime)
	if server := serverDeadline(r, since); !server.IsZero() && server.Before(until) {
		until = server
	}
	control := http.NewResponseController(w)
	bounded := control.SetReadDeadline(until) == nil
	if bounded && a.status != http.StatusRequestTimeout && r.Header.Get("Expect") == "" &&
		r.ContentLength > 0 && r.ContentLength <= smallRest {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			_ = control.SetReadDeadline(time.Time{}) // fails if the connection is gone
			return a.write(w)
		}
	}
	w.Header().Set("Connection", "close")
	if err := a.write(w); err != nil {
		return err
	}
	if flushed := control.Flush() == nil; !flushed || !bounded {
		return nil // the caller has gone, or cannot be listened to for a bounded time
	}
	began := time.Now()
	if _, err := io.CopyN(io.Discard, r.Body, lingerBytes); !errors.Is(err, io.EOF) {
		// the deadline had passed before, or a limit ends the body
		select {
		case <-time.After(resetDelay - time.Since(began)):
		case <-r.Context().Done():
		}
	}
	return nil
}

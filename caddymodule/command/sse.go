package command

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// maxEventLine bounds a line of a stream.
const maxEventLine = 4 << 20

// sseEvent is a server-sent event.
type sseEvent struct {
	name string
	data []byte
}

// sseReader reads server-sent events as the HTML standard defines them.
type sseReader struct {
	scanner *bufio.Scanner

	// lastID and retry are the stream's last values; retry is 0 if there was none.
	lastID string
	retry  time.Duration
}

// newSSEReader reads a stream that goes on after the event with the id lastID. It calls
// alive for each line, including comments.
func newSSEReader(r io.Reader, lastID string, alive func()) *sseReader {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxEventLine)
	var splitter lineSplitter
	scanner.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		advance, token, err := splitter.split(data, atEOF)
		if token != nil {
			alive()
		}
		return advance, token, err
	})
	return &sseReader{scanner: scanner, lastID: lastID}
}

// next returns the next event, or io.EOF. An incomplete event at the end is dropped, as
// the standard says, and its id does not count.
func (r *sseReader) next() (sseEvent, error) {
	event, id := sseEvent{name: "message"}, r.lastID
	for r.scanner.Scan() {
		line := r.scanner.Text()
		if line == "" {
			r.lastID = id
			if event.data == nil {
				event.name = "message"
				continue
			}
			event.data = event.data[:len(event.data)-1] // the last line feed
			return event, nil
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			event.name = value
		case "data":
			if len(event.data)+len(value) > maxEventLine {
				return event, errEventTooLong
			}
			event.data = append(append(event.data, value...), '\n')
		case "id":
			if !strings.ContainsRune(value, 0) {
				id = value
			}
		case "retry":
			if ms, err := strconv.ParseUint(value, 10, 31); err == nil {
				r.retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
	err := r.scanner.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		return event, errEventTooLong
	case err == nil:
		return event, io.EOF
	}
	return event, err
}

var errEventTooLong = fmt.Errorf("an event of the stream is longer than %d MiB", maxEventLine>>20)

// lineSplitter splits at LF, CR LF and CR. A line ends at a CR, without waiting for what
// follows, which may arrive much later; an LF that follows is skipped then.
type lineSplitter struct{ afterCR bool }

func (l *lineSplitter) split(data []byte, atEOF bool) (int, []byte, error) {
	skipped := 0
	if l.afterCR && len(data) > 0 {
		l.afterCR = false
		if data[0] == '\n' {
			skipped = 1
		}
	}
	for i := skipped; i < len(data); i++ {
		if c := data[i]; c == '\n' || c == '\r' {
			l.afterCR = c == '\r'
			return i + 1, data[skipped:i:i], nil
		}
	}
	if atEOF {
		return len(data), nil, nil // an unfinished line does not count
	}
	return skipped, nil, nil
}

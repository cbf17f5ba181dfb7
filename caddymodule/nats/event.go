package nats

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// The headers of an event's message. Its payload is the event's body.
const (
	headerTask     = "Fotor-Task"     // the task's id, percent-encoded
	headerType     = "Fotor-Type"     // the task's type, percent-encoded
	headerStatus   = "Fotor-Status"   // 0, 1 or 2
	headerReceived = "Fotor-Received" // RFC 3339, to the microsecond
	headerPrev     = "Fotor-Prev"     // 1 if the task had an event before
	headerImport   = "Fotor-Import"   // what had become of the event where it came from
	headerParent   = "traceparent"
	headerState    = "tracestate"
)

const receivedFormat = "2006-01-02T15:04:05.000000Z07:00"

// imported is what had become of an event that was brought from another inbox.
type imported struct {
	Kind   kind   `json:"kind"`
	Record record `json:"record"`
}

// stored is an event in its stream.
type stored struct {
	*inbox.Event
	seq    uint64
	prev   bool      // the task had an event before
	origin *imported // nil if it was put here
}

// encodeEvent makes the message of an event.
func encodeEvent(subject string, e *inbox.Event) *nats.Msg {
	m := &nats.Msg{Subject: subject, Data: e.Body, Header: nats.Header{
		headerTask:     {url.QueryEscape(e.TaskID)},
		headerType:     {url.QueryEscape(e.Type)},
		headerStatus:   {strconv.Itoa(int(e.Status))},
		headerReceived: {e.ReceivedAt.UTC().Format(receivedFormat)},
	}}
	if e.TraceParent != "" {
		m.Header.Set(headerParent, e.TraceParent)
	}
	if e.TraceState != "" {
		m.Header.Set(headerState, e.TraceState)
	}
	return m
}

// decodeEvent reads the message of an event.
func decodeEvent(m message) (*stored, error) {
	task, err := url.QueryUnescape(m.header.Get(headerTask))
	if err != nil {
		return nil, fmt.Errorf("message %d: task: %w", m.seq, err)
	}
	kind, err := url.QueryUnescape(m.header.Get(headerType))
	if err != nil {
		return nil, fmt.Errorf("message %d: type: %w", m.seq, err)
	}
	status, err := strconv.ParseUint(m.header.Get(headerStatus), 10, 8)
	if err != nil || status > uint64(inbox.Failed) {
		return nil, fmt.Errorf("message %d has no status", m.seq)
	}
	received, err := time.Parse(receivedFormat, m.header.Get(headerReceived))
	if err != nil {
		return nil, fmt.Errorf("message %d: time: %w", m.seq, err)
	}
	s := &stored{seq: m.seq, prev: m.header.Get(headerPrev) != "", Event: &inbox.Event{
		ID: idOf(m.subject), TaskID: task, Type: kind, Status: inbox.Status(status), ReceivedAt: received.UTC(),
		Body: m.data, TraceParent: m.header.Get(headerParent), TraceState: m.header.Get(headerState),
	}}
	if text := m.header.Get(headerImport); text != "" {
		s.origin = new(imported)
		if err := json.Unmarshal([]byte(text), s.origin); err != nil {
			return nil, fmt.Errorf("message %d: import: %w", m.seq, err)
		}
	}
	return s, nil
}

// checkEvent reports what would make an event impossible to find again.
func checkEvent(e *inbox.Event) error {
	_, err := inbox.ParseID(e.ID)
	switch {
	case err != nil:
		return err
	case e.TaskID == "":
		return fmt.Errorf("event %s has no task id", e.ID)
	case e.Type == "":
		return fmt.Errorf("event %s has no type", e.ID)
	case e.Status > inbox.Failed:
		return fmt.Errorf("event %s has status %d; expected 0, 1 or 2", e.ID, e.Status)
	case e.ID[:keyLength] != fmt.Sprintf("%016x", inbox.TaskKey(e.TaskID)):
		return fmt.Errorf("event %s does not begin with the key of its task %q", e.ID, e.TaskID)
	}
	return nil
}

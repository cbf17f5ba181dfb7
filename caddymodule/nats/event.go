package nats

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// The headers of an event's message. Its payload is the event's body.
const (
	headerTask     = "Fotor-Task"         // the task's id, percent-encoded, unless it is very long
	headerType     = "Fotor-Type"         // the task's type, percent-encoded, unless it is very long
	headerStatus   = "Fotor-Status"       // a number of inbox.Status
	headerReceived = "Fotor-Received"     // RFC 3339, to the microsecond
	headerPrev     = "Fotor-Prev"         // 1 if the task had an event before
	headerFinal    = "Fotor-Final"        // 1 if one of those was final
	headerImport   = "Fotor-Import"       // the state of an imported event
	headerTo       = "Fotor-Destinations" // their names, separated by commas; absent if the default is the only one
	headerOrigin   = "Fotor-Origin"       // api; absent if it was called
	headerOutcome  = "Fotor-Outcome"      // of a final event that is compared: its revision and outcome, see encodeOutcome
	headerTold     = "Fotor-Told"         // the last of the events before that have outcomes, see encodeTold
	headerParent   = "traceparent"
	headerState    = "tracestate"
)

const receivedFormat = "2006-01-02T15:04:05.000000Z07:00"

// stored is an event read from its stream.
type stored struct {
	*inbox.Event
	seq    uint64
	prev   bool         // the task had an event before
	final  bool         // one of those was final
	told   []inbox.Told // those of them that have outcomes, the last ones, oldest first
	origin *imported    // nil unless it was imported

	// several says that it has other destinations than the default alone: those in
	// to, perhaps none.
	several bool
	to      []string
}

// goesTo reports whether an event was put for a destination.
func (e *stored) goesTo(destination string) bool {
	if !e.several {
		return destination == inbox.DefaultDestination
	}
	return slices.Contains(e.to, destination)
}

// originAt returns the state of the delivery to a destination in the inbox from which
// the event was imported, nil if there is none.
func (e *stored) originAt(destination string) *imported {
	switch {
	case e.origin == nil:
		return nil
	case e.several:
		return e.origin.To[destination]
	default:
		return e.origin
	}
}

// onlyDefault reports whether an event that is to be put goes to the default destination
// alone. Its message is that of an inbox without destinations.
func onlyDefault(e *inbox.Event) bool {
	to := e.GoesTo()
	return len(to) == 1 && to[0] == inbox.DefaultDestination
}

// maxHeader is the length above which a value is not put into a header but read
// from the body: a task's id may be as long as a body, and a server accepts no
// more than 64 KiB of headers.
const maxHeader = 2 << 10

// named are the members of an event's body that may be too long for a header.
type named struct {
	TaskID string `json:"taskId"`
	Type   string `json:"type"`
}

// encodeEvent returns the message of an event.
func encodeEvent(subject string, e *inbox.Event) (*nats.Msg, error) {
	m := &nats.Msg{Subject: subject, Data: e.Body, Header: nats.Header{
		headerStatus:   {strconv.Itoa(int(e.Status))},
		headerReceived: {e.ReceivedAt.UTC().Format(receivedFormat)},
	}}
	long := false
	for name, value := range map[string]string{headerTask: e.TaskID, headerType: e.Type} {
		if text := url.QueryEscape(value); len(text) <= maxHeader {
			m.Header.Set(name, text)
		} else {
			long = true
		}
	}
	if long {
		var in named
		if err := json.Unmarshal(e.Body, &in); err != nil || in != (named{e.TaskID, e.Type}) {
			return nil, fmt.Errorf("event %s has a task id of %d and a type of %d bytes, and a body that does not name them", e.ID, len(e.TaskID), len(e.Type))
		}
	}
	if !onlyDefault(e) {
		m.Header.Set(headerTo, strings.Join(e.Destinations, ","))
	}
	if e.Origin != inbox.FromCallback {
		m.Header.Set(headerOrigin, e.Origin.String())
	}
	if !e.Outcome.IsZero() {
		m.Header.Set(headerOutcome, encodeOutcome(e.Told()))
	}
	if e.TraceParent != "" {
		m.Header.Set(headerParent, e.TraceParent)
	}
	if e.TraceState != "" {
		m.Header.Set(headerState, e.TraceState)
	}
	return m, nil
}

// decodeEvent decodes the message of an event.
func decodeEvent(m message) (*stored, error) {
	if len(idOf(m.subject)) != inbox.IDLength {
		return nil, fmt.Errorf("message %d on %.200q is not of the gateway: remove it", m.seq, m.subject)
	}
	name, err := nameIn(m)
	if err != nil {
		return nil, fmt.Errorf("message %d: task and type: %w", m.seq, err)
	}
	status, err := strconv.ParseUint(m.header.Get(headerStatus), 10, 8)
	if err != nil || status > uint64(inbox.Unconfirmed) {
		return nil, fmt.Errorf("message %d has no status", m.seq)
	}
	received, err := time.Parse(receivedFormat, m.header.Get(headerReceived))
	if err != nil {
		return nil, fmt.Errorf("message %d: time: %w", m.seq, err)
	}
	s := &stored{seq: m.seq, prev: m.header.Get(headerPrev) != "", final: m.header.Get(headerFinal) != "", Event: &inbox.Event{
		ID: idOf(m.subject), TaskID: name.TaskID, Type: name.Type, Status: inbox.Status(status), ReceivedAt: received.UTC(),
		Body: m.data, TraceParent: m.header.Get(headerParent), TraceState: m.header.Get(headerState),
	}}
	if err := decodeOutcomes(s, m.header); err != nil {
		return nil, fmt.Errorf("message %d: %w", m.seq, err)
	}
	if to, ok := m.header[headerTo]; ok {
		s.several = true
		s.to = strings.FieldsFunc(strings.Join(to, ","), func(r rune) bool { return r == ',' })
	}
	if text := m.header.Get(headerImport); text != "" {
		s.origin = new(imported)
		if err := json.Unmarshal([]byte(text), s.origin); err != nil {
			return nil, fmt.Errorf("message %d: import: %w", m.seq, err)
		}
	}
	return s, nil
}

// nameIn returns the task's id and type, from the body if they are too long for
// headers.
func nameIn(m message) (n named, err error) {
	task, kind := m.header.Get(headerTask), m.header.Get(headerType)
	if task == "" || kind == "" {
		if err := json.Unmarshal(m.data, &n); err != nil {
			return n, err
		}
	}
	if task != "" {
		n.TaskID, err = url.QueryUnescape(task)
	}
	if err == nil && kind != "" {
		n.Type, err = url.QueryUnescape(kind)
	}
	if err != nil {
		return n, err
	}
	if n.TaskID == "" || n.Type == "" {
		return n, errors.New("there is none")
	}
	return n, nil
}

package match

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// Event is an event that Matchers look into. Its body is read at the first question that
// needs it, and of its members only those that are asked for. It is not safe for
// concurrent use.
type Event struct {
	event   *inbox.Event
	scanned bool
	err     error // why the body could not be scanned
	raw     map[string]jsontext.Value
	values  map[string]any
}

// Of returns an event to match, one for all Matchers that it is asked of.
func Of(e *inbox.Event) *Event { return &Event{event: e} }

// member returns a member of the event's JSON as CEL takes it.
func (e *Event) member(name string) (any, error) {
	switch name {
	case "id":
		return e.event.ID, nil
	case "taskId":
		return e.event.TaskID, nil
	case "type":
		return e.event.Type, nil
	case "status":
		return e.event.Status.String(), nil
	}
	if value, ok := e.values[name]; ok {
		return value, nil
	}
	raw, err := e.find(name)
	if err != nil {
		return nil, err
	}
	value, err := decode(jsontext.NewDecoder(bytes.NewReader(raw), decodeOptions...))
	if err != nil {
		return nil, fmt.Errorf("the event's %s: %w", name, err)
	}
	if e.values == nil {
		e.values = make(map[string]any)
	}
	e.values[name] = value
	return value, nil
}

func (e *Event) boolean(name string) (bool, error) {
	raw, err := e.find(name)
	if err != nil {
		return false, err
	}
	switch string(raw) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	default:
		return false, fmt.Errorf("the event's %s is %.20q: expected true or false", name, raw)
	}
}

// decodeOptions skip checks that were made when the callback was parsed.
var decodeOptions = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

func (e *Event) find(name string) (jsontext.Value, error) {
	if !e.scanned {
		e.scanned = true
		e.raw, e.err = scan(e.event.Body)
	}
	if e.err != nil {
		return nil, fmt.Errorf("reading the event: %w", e.err)
	}
	raw, ok := e.raw[name]
	if !ok {
		return nil, fmt.Errorf("the event has no %s", name)
	}
	return raw, nil
}

// scan returns the members of an object, as parts of its text.
func scan(body []byte) (map[string]jsontext.Value, error) {
	decoder := jsontext.NewDecoder(bytes.NewBuffer(body), decodeOptions...)
	open, err := decoder.ReadToken()
	if err != nil {
		return nil, err
	}
	if open.Kind() != '{' {
		return nil, fmt.Errorf("its body is %s: expected an object", open.Kind())
	}
	members := make(map[string]jsontext.Value, 15)
	for decoder.PeekKind() != '}' {
		token, err := decoder.ReadToken()
		if err != nil {
			return nil, err
		}
		name := token.String()
		value, err := decoder.ReadValue()
		if err != nil {
			return nil, err
		}
		end := decoder.InputOffset()
		members[name] = body[end-int64(len(value)) : end]
	}
	return members, nil
}

// decode reads a JSON value: whole numbers that fit as int64, others as float64, which
// is infinite if they are too large.
func decode(d *jsontext.Decoder) (any, error) {
	token, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case '{':
		return decodeObject(d)
	case '[':
		list := []any{}
		for d.PeekKind() != ']' {
			item, err := decode(d)
			if err != nil {
				return nil, err
			}
			list = append(list, item)
		}
		_, err := d.ReadToken()
		return list, err
	case '"':
		return token.String(), nil
	case 't', 'f':
		return token.Bool(), nil
	case '0':
		text := token.String()
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, nil
		}
		f, _ := strconv.ParseFloat(text, 64) //nolint:errcheck // out of range is ±Inf
		return f, nil
	default:
		return nil, nil // null
	}
}

func decodeObject(d *jsontext.Decoder) (any, error) {
	object := make(map[string]any)
	for d.PeekKind() != '}' {
		token, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		name := token.String()
		if object[name], err = decode(d); err != nil {
			return nil, err
		}
	}
	_, err := d.ReadToken()
	return object, err
}

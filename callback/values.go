package callback

import (
	"bytes"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// text reads a string. For null it returns null, or nil if the string is required. For a
// value of another type it records a problem and returns any string.
func (p *parser) text(name string, required bool) (jsonString, error) {
	switch kind := p.dec.PeekKind(); kind {
	case jsontext.KindString:
	case jsontext.KindNull:
		if required {
			return nil, p.skip()
		}
		return jsonNull, p.skip()
	default:
		return emptyString, p.wrongType(name, "a string", kind)
	}
	s, err := p.value()
	if err != nil {
		return nil, err
	}
	if bytes.IndexByte(s, '\\') >= 0 {
		if s, err = requote(s); err != nil {
			return nil, err
		}
	}
	if required && len(s) == len(emptyString) {
		p.add(name, "must not be empty")
	}
	return s, nil
}

// url reads a string that is a URL or, if it is not required, "".
func (p *parser) url(name string, required bool) (jsonString, error) {
	s, err := p.text(name, required)
	if err != nil || s.isNothing() {
		return s, err
	}
	u, err := unquote(s)
	if err == nil && !isResultURL(u) {
		p.add(name, "must be an absolute http, https or s3 URL with a host")
	}
	return s, err
}

// flag reads an optional boolean.
func (p *parser) flag(name string) (optionalBool, error) {
	switch kind := p.dec.PeekKind(); kind {
	case jsontext.KindTrue:
		return boolTrue, p.skip()
	case jsontext.KindFalse:
		return boolFalse, p.skip()
	case jsontext.KindNull:
		return boolNull, p.skip()
	default:
		return boolUnusable, p.wrongType(name, "a boolean", kind)
	}
}

// status reads the task's status: the number, and what it means. If it is not a known
// status, it records a problem and returns any values.
func (p *parser) status() (code int, status inbox.Status, err error) {
	const expected = "must be the integer 0 (in progress), 1 (completed) or 2 (failed)"
	kind := p.dec.PeekKind()
	if kind == jsontext.KindNull {
		return 0, 0, p.skip()
	}
	p.statusSeen = true
	literal, err := p.value()
	switch {
	case err != nil:
		return 0, 0, err
	case kind != jsontext.KindNumber:
		p.add(nameStatus, expected, ", not ", kindName(kind))
		return 0, 0, nil
	}
	code, ok := smallInteger(literal)
	if !ok {
		p.add(nameStatus, expected)
		return 0, 0, nil
	}
	status, ok = p.c.rules.status(code)
	if !ok {
		p.add(nameStatus, expected, ", or one that map_status takes, which ", strconv.Itoa(code), " is not")
	}
	return code, status, nil
}

// wrongType reads a value of a type that its member must not have.
func (p *parser) wrongType(name, expected string, kind jsontext.Kind) error {
	_, err := p.value()
	if err == nil {
		p.add(name, "must be ", expected, ", not ", kindName(kind))
	}
	return err
}

// unquote returns the text of a JSON string. Without escapes it is part of the string's
// bytes.
func unquote(quoted []byte) ([]byte, error) {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1], nil
	}
	return jsontext.AppendUnquote(nil, quoted)
}

// requote returns a JSON string in its shortest spelling, that of RFC 8785.
func requote(quoted []byte) ([]byte, error) {
	s, err := jsontext.AppendUnquote(nil, quoted)
	if err != nil {
		return nil, err
	}
	return jsontext.AppendQuote(make([]byte, 0, len(quoted)), s)
}

func kindName(kind jsontext.Kind) string {
	switch kind {
	case jsontext.KindNull:
		return "null"
	case jsontext.KindTrue, jsontext.KindFalse:
		return "a boolean"
	case jsontext.KindString:
		return "a string"
	case jsontext.KindNumber:
		return "a number"
	case jsontext.KindBeginObject:
		return "an object"
	default: // the end of an object or array is a syntax error, found before
		return "an array"
	}
}

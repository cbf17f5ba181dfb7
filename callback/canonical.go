package callback

import (
	"bytes"
	"cmp"
	"slices"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// canonicalizer writes the canonical form of a JSON text in one pass. The library needs
// three (numbers, white space and strings, order), which was the largest single cost
// of a callback.
type canonicalizer struct {
	src   []byte
	out   []byte
	depth int // of the deepest object or array

	// contentOnly leaves out what does not count for an event's id, see identity.go:
	// members that are null, at every depth. omitted is true if that left anything out.
	// omittedDeep is true if that may have been nested deeper than the rest.
	contentOnly, omitted, omittedDeep bool

	members []span        // of the objects that are being written
	others  []namedMember // undocumented members of the callback's objects that are being written
	sorting []byte
}

// span is a member in out: separator, name, colon, value.
type span struct {
	from, nameEnd, to int
	unescaped         []byte // the name without escapes, if it had any
}

// canonicalize returns the canonical form of a valid JSON text, and how deep its objects
// and arrays are nested. Names must be unique within their object. Beyond maxDepth it
// gives up, and only the depth is meaningful. The next call overwrites the result.
func (c *canonicalizer) canonicalize(src []byte) (canonical []byte, depth int) {
	c.src, c.out, c.depth = src, c.out[:0], 0
	c.value(0, 0)
	c.src, c.members = nil, c.members[:0]
	return c.out, c.depth
}

// value appends the value that begins at src[i], or after white space there, and
// returns the index after it.
func (c *canonicalizer) value(i, level int) int {
	i = c.skipSpace(i)
	switch ch := c.src[i]; ch {
	case '{', '[':
		level++
		c.depth = max(c.depth, level)
		if level > maxDepth {
			return len(c.src)
		}
		if ch == '{' {
			return c.object(i+1, level)
		}
		return c.array(i+1, level)
	case '"':
		end := endOfString(c.src, i)
		c.string(c.src[i:end])
		return end
	case 't', 'f', 'n':
		end := i + len("null")
		if ch == 'f' {
			end++
		}
		c.out = append(c.out, c.src[i:end]...)
		return end
	default:
		end := endOfNumber(c.src, i)
		if number := c.src[i:end]; isPlain(number) {
			c.out = append(c.out, number...)
		} else {
			c.out = appendNumber(c.out, number)
		}
		return end
	}
}

func (c *canonicalizer) skipSpace(i int) int {
	for c.src[i] <= ' ' {
		i++
	}
	return i
}

// string appends a string. One without escapes is canonical already.
func (c *canonicalizer) string(raw []byte) {
	if bytes.IndexByte(raw, '\\') < 0 {
		c.out = append(c.out, raw...)
		return
	}
	text, _ := jsontext.AppendUnquote(nil, raw) // the parser has checked it
	c.out, _ = jsontext.AppendQuote(c.out, text)
}

// array appends an array whose first element begins at src[i].
func (c *canonicalizer) array(i, level int) int {
	c.out = append(c.out, '[')
	for first := true; i < len(c.src); first = false {
		i = c.skipSpace(i)
		switch c.src[i] {
		case ']':
			c.out = append(c.out, ']')
			return i + 1
		case ',':
			i++
		}
		if !first {
			c.out = append(c.out, ',')
		}
		i = c.value(i, level)
	}
	return i // too deep
}

// object appends an object whose first member begins at src[i].
func (c *canonicalizer) object(i, level int) int {
	begin, base := len(c.out), len(c.members)
	sorted := true
	for i < len(c.src) {
		i = c.skipSpace(i)
		switch c.src[i] {
		case '}':
			if len(c.members) == base {
				c.out = append(c.out, '{')
			} else if !sorted {
				c.sort(begin, c.members[base:])
			}
			c.members = c.members[:base]
			c.out = append(c.out, '}')
			return i + 1
		case ',':
			i = c.skipSpace(i + 1)
		}
		end := endOfString(c.src, i)
		begins := c.skipSpace(c.skipSpace(end) + 1) // of the value
		if c.contentOnly && c.src[begins] == 'n' {
			c.omitted = true
			i = begins + len("null")
			continue
		}
		m := span{from: len(c.out)}
		separator := byte('{')
		if len(c.members) > base {
			separator = ','
		}
		c.out = append(c.out, separator)
		if name := c.src[i:end]; bytes.IndexByte(name, '\\') >= 0 {
			m.unescaped, _ = jsontext.AppendUnquote(nil, name)
		}
		c.string(c.src[i:end])
		m.nameEnd = len(c.out)
		c.out = append(c.out, ':')
		i = c.value(begins, level)
		m.to = len(c.out)
		sorted = sorted && (len(c.members) == base || c.compare(c.members[len(c.members)-1], m) < 0)
		c.members = append(c.members, m)
	}
	return i // too deep
}

// sort sorts the members of the object that begins at out[begin].
func (c *canonicalizer) sort(begin int, members []span) {
	slices.SortFunc(members, c.compare)
	c.sorting = append(c.sorting[:0], c.out[begin:]...)
	c.out = c.out[:begin]
	for i, m := range members {
		separator := byte('{')
		if i > 0 {
			separator = ','
		}
		c.out = append(c.out, separator)
		c.out = append(c.out, c.sorting[m.from-begin+1:m.to-begin]...)
	}
}

// compare compares members by their names.
func (c *canonicalizer) compare(a, b span) int { return compareNames(c.name(a), c.name(b)) }

func (c *canonicalizer) name(m span) []byte {
	if m.unescaped != nil {
		return m.unescaped
	}
	return c.out[m.from+2 : m.nameEnd-1] // without separator and quotation marks
}

// compareNames compares names by their UTF-16 code units (RFC 8785, 3.2.3).
func compareNames(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	if n == len(a) || n == len(b) {
		return cmp.Compare(len(a), len(b))
	}
	for n > 0 && !utf8.RuneStart(a[n]) {
		n--
	}
	ra, _ := utf8.DecodeRune(a[n:])
	rb, _ := utf8.DecodeRune(b[n:])
	if (ra > 0xffff) == (rb > 0xffff) {
		return cmp.Compare(ra, rb)
	}
	return cmp.Compare(firstUnit(ra), firstUnit(rb))
}

// firstUnit is the first UTF-16 code unit of a character.
func firstUnit(r rune) rune {
	if r > 0xffff {
		r, _ = utf16.EncodeRune(r)
	}
	return r
}

package callback

import (
	"bytes"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Numbers in the canonical form of a callback, from which its event's id is made, are
// written as RFC 8785 has it, with one exception. RFC 8785 takes every number for a
// float64, so it writes 9007199254740993 as 9007199254740992 and 1e400 as the largest
// float64: two callbacks that differ only there would get the same id, and the second
// would be dropped as a repeat. So a number whose RFC 8785 form is a different decimal
// number keeps all of its digits, in a form of its own: 9007199254740993e0. Equal
// numbers have the same form, however they are spelled; different ones never have.

// plainDigits is the length of an integer up to which its digits are its
// RFC 8785 form: 999,999,999,999,999 is below 2^53.
const plainDigits = 15

// maxFloatDigits is the largest number of digits, zeros at either end not
// counted, that the RFC 8785 form of a number has.
const maxFloatDigits = 17

// endOfString returns the index after the string that begins at src[i].
func endOfString(src []byte, i int) int {
	for i++; ; i++ {
		i += bytes.IndexByte(src[i:], '"')
		escapes := 0
		for src[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i + 1
		}
	}
}

// endOfNumber returns the index after the number that begins at src[i].
func endOfNumber(src []byte, i int) int {
	for ; i < len(src); i++ {
		switch c := src[i]; {
		case '0' <= c && c <= '9', c == '-', c == '+', c == '.', c == 'e', c == 'E':
		default:
			return i
		}
	}
	return i
}

// isPlain reports whether the number is certain to be in its canonical form.
func isPlain(number []byte) bool {
	if len(number) > plainDigits {
		return false
	}
	return bytes.IndexFunc(number, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// appendNumber appends the canonical form of a JSON number.
func appendNumber(dst, number []byte) []byte {
	var room [64]byte
	d, ok := parseDecimal(room[:0], number)
	switch {
	case !ok:
		return append(dst, number...)
	case len(d.digits) == 0:
		return append(dst, '0')
	}
	var room2 [64]byte
	exact := appendDecimal(room2[:0], d)
	if len(d.digits) > maxFloatDigits {
		return append(dst, exact...)
	}
	f, err := strconv.ParseFloat(string(exact), 64)
	if err != nil {
		return append(dst, exact...) // out of range: there is no other error
	}
	before := len(dst)
	dst = jsontext.AppendFloat(dst, f, 64)
	var room3 [64]byte
	if written, ok := parseDecimal(room3[:0], dst[before:]); ok && written.equal(d) {
		return dst
	}
	return append(dst[:before], exact...)
}

// decimal is the number digits × 10^exponent, negative or not. The digits neither begin
// nor end with 0; zero has no digits, no sign and no exponent.
type decimal struct {
	negative bool
	digits   []byte
	exponent int64
}

func (d decimal) equal(e decimal) bool {
	return d.negative == e.negative && d.exponent == e.exponent && bytes.Equal(d.digits, e.digits)
}

func appendDecimal(dst []byte, d decimal) []byte {
	if d.negative {
		dst = append(dst, '-')
	}
	dst = append(append(dst, d.digits...), 'e')
	return strconv.AppendInt(dst, d.exponent, 10)
}

// maxExponentDigits keeps an exponent plus the number of digits within an int64.
const maxExponentDigits = 18

// parseDecimal parses a valid JSON number, using room for its digits. It returns false
// if the exponent has more than 18 digits: such numbers stay as they are spelled, so
// that equal ones may have different forms, but different ones never the same.
func parseDecimal(room, number []byte) (d decimal, ok bool) {
	mantissa, exponent := number, []byte(nil)
	if i := bytes.IndexAny(number, "eE"); i >= 0 {
		mantissa, exponent = number[:i], number[i+1:]
	}
	if mantissa[0] == '-' {
		d.negative, mantissa = true, mantissa[1:]
	}
	whole, fraction, _ := bytes.Cut(mantissa, []byte("."))
	digits := bytes.TrimLeft(append(append(room, whole...), fraction...), "0")
	d.digits = bytes.TrimRight(digits, "0")
	if len(d.digits) == 0 {
		return decimal{}, true
	}
	e, ok := parseExponent(exponent)
	d.exponent = e - int64(len(fraction)) + int64(len(digits)-len(d.digits))
	return d, ok
}

func parseExponent(s []byte) (e int64, ok bool) {
	if len(s) == 0 {
		return 0, true
	}
	negative := s[0] == '-'
	digits := bytes.TrimLeft(bytes.TrimLeft(s, "+-"), "0")
	if len(digits) > maxExponentDigits {
		return 0, false
	}
	for _, c := range digits {
		e = e*10 + int64(c-'0')
	}
	if negative {
		e = -e
	}
	return e, true
}

// maxSmall is the largest integer that smallInteger reads.
const maxSmall = 999

// smallInteger reads a JSON number that equals an integer from 0 to 999,
// however it is spelled.
func smallInteger(number []byte) (n int, ok bool) {
	if len(number) == 1 {
		return int(number[0] - '0'), true
	}
	var room [64]byte
	d, ok := parseDecimal(room[:0], number)
	const digits = 3
	if !ok || d.negative || d.exponent < 0 || int64(len(d.digits))+d.exponent > digits {
		return 0, false
	}
	for _, c := range d.digits {
		n = n*10 + int(c-'0')
	}
	for range d.exponent {
		n *= 10
	}
	return n, true
}

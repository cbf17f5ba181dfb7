package callback

import (
	"bytes"
	"net/netip"
	"strings"
)

// isResultURL reports whether s, which is UTF-8, is an absolute http, https or s3 URL
// with a host, which for s3 is the bucket. It accepts what net/url parses, but is
// stricter about the authority, where a lenient reading can send a request elsewhere:
//
//   - user information, if any, is what RFC 3986 allows;
//   - the host is a name of characters of RFC 3986 or beyond ASCII, with
//     percent-encoding for the latter only, an IPv4 address, or an IPv6 address in
//     brackets, without a zone;
//   - the port is a colon and decimal digits, or a colon alone.
//
// In the path, query and fragment anything is allowed but control characters and,
// outside the query, a percent sign without two hexadecimal digits. The pattern of
// $defs/url in schema/callback.schema.json accepts exactly the same.
func isResultURL(s []byte) bool {
	scheme, rest, ok := bytes.Cut(s, []byte("://"))
	if !ok || !isScheme(scheme) {
		return false
	}
	end := bytes.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	return isAuthority(rest[:end]) && isPath(rest[end:])
}

func isScheme(s []byte) bool {
	return bytes.EqualFold(s, []byte("https")) || bytes.EqualFold(s, []byte("http")) || bytes.EqualFold(s, []byte("s3"))
}

func isAuthority(s []byte) bool {
	if user, host, ok := bytes.Cut(s, []byte("@")); ok {
		if !consistsOf(user, urlUser, anyByte) {
			return false
		}
		s = host
	}
	if len(s) > 0 && s[0] == '[' {
		literal, port, ok := bytes.Cut(s[1:], []byte("]"))
		return ok && isIPv6(string(literal)) && isPort(port)
	}
	host := s
	if colon := bytes.IndexByte(s, ':'); colon >= 0 {
		host = s[:colon]
	}
	return len(host) > 0 && consistsOf(host, urlHost, beyondASCII) && isPort(s[len(host):])
}

// isPort reports whether s may follow a host: nothing, or a colon and any number of
// digits.
func isPort(s []byte) bool {
	if len(s) == 0 {
		return true
	}
	return s[0] == ':' && len(bytes.TrimLeft(s[1:], "0123456789")) == 0
}

func isIPv6(s string) bool {
	addr, err := netip.ParseAddr(s)
	return err == nil && addr.Is6() && addr.Zone() == ""
}

// isPath reports whether s, which is empty or begins with a slash, "?" or "#", is a path
// with an optional query and fragment.
func isPath(s []byte) bool {
	rest, fragment, _ := bytes.Cut(s, []byte("#"))
	path, query, _ := bytes.Cut(rest, []byte("?"))
	return consistsOf(path, urlText, anyByte) &&
		consistsOf(query, urlQuery, anyByte) &&
		consistsOf(fragment, urlText, anyByte)
}

// The parts of a URL in which a byte may stand: bits of urlBytes.
const (
	urlUser  uint8 = 1 << iota // user information
	urlHost                    // a host's name
	urlText                    // path and fragment
	urlQuery                   // query
)

var urlBytes = func() (classes [256]uint8) {
	for i := range classes {
		c := byte(i)
		alphanumeric := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		// "unreserved" and "sub-delims" of RFC 3986.
		if alphanumeric || strings.IndexByte("-._~!$&'()*+,;=", c) >= 0 {
			classes[i] |= urlUser | urlHost
		}
		if c == ':' {
			classes[i] |= urlUser
		}
		if c >= 0x80 {
			classes[i] |= urlHost
		}
		if c >= ' ' && c != 0x7f {
			classes[i] |= urlQuery
		}
		if c >= ' ' && c != 0x7f && c != '%' {
			classes[i] |= urlText
		}
	}
	return classes
}()

// The least first digit of a percent-encoded byte, as consistsOf takes it.
const (
	anyByte     = '0'
	beyondASCII = '8'
)

// consistsOf reports whether every byte of s is of the class, or part of a
// percent-encoded byte whose first hexadecimal digit is at least least.
func consistsOf(s []byte, class uint8, least byte) bool {
	for i := 0; i < len(s); i++ {
		if urlBytes[s[i]]&class != 0 {
			continue
		}
		if s[i] != '%' || i+2 >= len(s) || s[i+1] < least || !isHex(s[i+1]) || !isHex(s[i+2]) {
			return false
		}
		i += 2
	}
	return true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

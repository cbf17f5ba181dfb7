// Package mediatype judges what the headers of a request say of its body.
package mediatype

import (
	"net/http"
	"strconv"
	"strings"
)

// mediaJSON is the one media type that is taken.
const mediaJSON = "application/json"

// Unsupported returns what is wrong with the body's media type or encoding, "" if
// nothing is. Fotor may not send a callback again, so only what is clearly something
// else is refused: parameters do not matter, even broken ones, and a header may be
// repeated.
func Unsupported(header http.Header) string {
	types := header.Values("Content-Type")
	if len(types) == 1 && types[0] == mediaJSON && header["Content-Encoding"] == nil {
		return ""
	}
	encodings := header.Values("Content-Encoding")
	for _, encoding := range listElements(encodings) {
		if !strings.EqualFold(encoding, "identity") {
			return "The body has the Content-Encoding " + quoteHeader(encodings) + "; expected none"
		}
	}
	media := listElements(types)
	if len(media) == 0 {
		return "There is no Content-Type; expected application/json"
	}
	for _, m := range media {
		end := strings.IndexAny(m, "; \t")
		if end < 0 {
			end = len(m)
		}
		if !strings.EqualFold(m[:end], mediaJSON) {
			return "The Content-Type is " + quoteHeader(types) + "; expected application/json"
		}
	}
	return ""
}

// listElements returns the elements of a header that may be a list: separated by commas
// outside quotation marks, or in header lines of their own. Empty ones do not count
// (RFC 9110, section 5.6.1.2).
func listElements(values []string) (elements []string) {
	for _, value := range values {
		for rest := value; rest != ""; {
			end := endOfElement(rest)
			if element := strings.Trim(rest[:end], " \t"); element != "" {
				elements = append(elements, element)
			}
			rest = rest[min(end+1, len(rest)):]
		}
	}
	return elements
}

// endOfElement returns the index of the first comma that is not between
// quotation marks, or the length of the list.
func endOfElement(list string) int {
	quoted := false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++ // skips the escaped byte
		case c == ',' && !quoted:
			return i
		}
	}
	return len(list)
}

// maxQuoted is how many bytes of a header an answer quotes.
const maxQuoted = 64

// quoteHeader quotes the values of a header in printable ASCII, cut to maxQuoted.
func quoteHeader(values []string) string {
	text := strings.Join(values, ", ")
	if len(text) <= maxQuoted {
		return strconv.QuoteToASCII(text)
	}
	return strconv.QuoteToASCII(text[:maxQuoted]) + " …"
}

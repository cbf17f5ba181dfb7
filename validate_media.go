package fotorwebhook

import (
	"net/http"
	"strconv"
	"strings"
)

// mediaTrouble says what is wrong with the body's declared form, if anything.
// Fotor may not send a callback again, so it is refused for what is known to be
// something else, and not for how it is said: parameters do not matter, be they
// broken, and a header that is there twice says the same twice.
func mediaTrouble(header http.Header) string {
	types := header.Values("Content-Type")
	if len(types) == 1 && types[0] == mediaJSON && header["Content-Encoding"] == nil {
		return ""
	}
	encodings := header.Values("Content-Encoding")
	for _, encoding := range listed(encodings) {
		if !strings.EqualFold(encoding, "identity") {
			return "The body has the Content-Encoding " + quoteCut(encodings) + "; expected none"
		}
	}
	media := listed(types)
	if len(media) == 0 {
		return "There is no Content-Type; expected application/json"
	}
	for _, m := range media {
		end := strings.IndexAny(m, "; \t")
		if end < 0 {
			end = len(m)
		}
		if !strings.EqualFold(m[:end], mediaJSON) {
			return "The Content-Type is " + quoteCut(types) + "; expected application/json"
		}
	}
	return ""
}

// listed returns the elements of a header that may be a list: separated by
// commas outside of quotation marks, or in lines of their own. Empty ones do not
// count (RFC 9110, section 5.6.1.2).
func listed(values []string) (elements []string) {
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
			i++ // what it escapes
		case c == ',' && !quoted:
			return i
		}
	}
	return len(list)
}

// maxQuoted is how much of a header is repeated to its sender, in bytes.
const maxQuoted = 64

// quoteCut quotes the values of a header in printable ASCII.
func quoteCut(values []string) string {
	text := strings.Join(values, ", ")
	if len(text) <= maxQuoted {
		return strconv.QuoteToASCII(text)
	}
	return strconv.QuoteToASCII(text[:maxQuoted]) + " …"
}

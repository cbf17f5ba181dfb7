package fotorwebhook

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// judge reads the callback that a request brought. If there is none it returns
// what the caller is to be answered.
func judge(header http.Header, body []byte, rules *callback.Rules) (c *callback.Callback, refused *answer) {
	if trouble := mediaTrouble(header); trouble != "" {
		a := answerMedia(trouble)
		return nil, &a
	}
	return judgeBody(body, rules)
}

// judgeBody is judge for a body whose headers do not matter any more.
func judgeBody(body []byte, rules *callback.Rules) (c *callback.Callback, refused *answer) {
	c, err := callback.Parse(body, rules)
	if err == nil {
		return c, nil
	}
	invalid, ok := errors.AsType[*callback.InvalidError](err)
	if !ok { // which Parse does not return
		invalid = &callback.InvalidError{NotJSON: true, Problems: []callback.Problem{{Detail: err.Error()}}}
	}
	a := answerInvalid(invalid)
	return nil, &a
}

// grounds returns the problems for which a callback is refused, at least one. If
// its body was not looked into, what is wrong is about the whole.
func (a *answer) grounds() []callback.Problem {
	if len(a.problems) == 0 {
		return []callback.Problem{{Detail: a.detail}}
	}
	return a.problems
}

// suspectOf is what the quarantine keeps of a refused callback.
func suspectOf(c received, refused *answer) *inbox.Suspect {
	return &inbox.Suspect{
		ReceivedAt: c.receivedAt,
		SourceIP:   c.source.String(),
		Status:     refused.status,
		Problems:   appendProblems(nil, refused.grounds()),
		Body:       bytes.Clone(c.body),
	}
}

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

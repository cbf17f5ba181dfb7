package callback

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// TimeLayout is the format of an event's receivedAt: RFC 3339 in UTC, always with
// microseconds.
const TimeLayout = "2006-01-02T15:04:05.000000Z"

// eventOverhead is how much longer than its callback an event usually is, at most.
const eventOverhead = 512

// Event makes the event of a callback that arrived at receivedAt from source, which
// must be valid. Its body is one line of JSON as schema/event.schema.json describes
// it. Its id depends on the callback's content alone.
//
// URLs have the prefixes of the rules replaced. Texts keep every character;
// undocumented members keep their spelling (escapes, digits) and order, but not the
// white space within them.
func (c *Callback) Event(receivedAt time.Time, source netip.Addr) *inbox.Event {
	receivedAt = receivedAt.UTC().Truncate(time.Microsecond)
	e := &inbox.Event{ID: c.id, FormerID: c.formerID, TaskID: c.TaskID, Type: c.Type, Status: c.Status, ReceivedAt: receivedAt}
	e.Body = c.appendBody(make([]byte, 0, c.size+eventOverhead), receivedAt, source)
	return e
}

func (c *Callback) appendBody(b []byte, receivedAt time.Time, source netip.Addr) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, c.id...)
	b = append(b, `","taskId":`...)
	b = c.taskID.append(b)
	b = append(b, `,"type":`...)
	b = c.taskType.append(b)
	b = append(b, `,"status":"`...)
	b = append(b, c.Status.String()...)
	b = append(b, `","statusCode":`...)
	b = strconv.AppendInt(b, int64(c.code), 10)
	b = append(b, `,"businessId":`...)
	b = c.businessID.append(b)
	b = append(b, `,"resultUrl":`...)
	b = c.rules.appendURL(b, c.resultURL)
	b = append(b, `,"avatars":[`...)
	for i := range c.avatars {
		if i > 0 {
			b = append(b, ',')
		}
		b = c.avatars[i].append(b, c.rules)
	}
	b = append(b, `],"sensitive":`...)
	b = strconv.AppendBool(b, c.sensitive())
	b = append(b, `,"extra":`...)
	b = appendMembers(b, c.extra)
	b = append(b, `,"receivedAt":"`...)
	b = receivedAt.AppendFormat(b, TimeLayout)
	b = append(b, `","sourceIp":"`...)
	b = source.Unmap().WithZone("").AppendTo(b)
	return append(b, `"}`...)
}

func (a *avatar) append(b []byte, rules *Rules) []byte {
	b = append(b, `{"templateId":`...)
	b = a.templateID.append(b)
	b = append(b, `,"images":[`...)
	for i := range a.images {
		if i > 0 {
			b = append(b, ',')
		}
		b = a.images[i].append(b, rules)
	}
	return append(appendExtra(append(b, ']'), a.extra), '}')
}

func (i *avatarImage) append(b []byte, rules *Rules) []byte {
	b = append(b, `{"id":`...)
	b = i.id.append(b)
	b = append(b, `,"url":`...)
	b = rules.appendURL(b, i.url)
	b = append(b, `,"sensitive":`...)
	b = strconv.AppendBool(b, i.sensitive())
	return append(appendExtra(b, i.extra), '}')
}

// sensitive reports whether the callback flags itself or any of its images as harmful
// or sensitive.
func (c *Callback) sensitive() bool {
	if isTrue(c.hsfw, c.nsfw) {
		return true
	}
	for _, a := range c.avatars {
		for i := range a.images {
			if a.images[i].sensitive() {
				return true
			}
		}
	}
	return false
}

func (i *avatarImage) sensitive() bool { return isTrue(i.hsfw, i.nsfw) }

func (s jsonString) append(b []byte) []byte {
	if s == nil {
		return append(b, jsonNull...)
	}
	return append(b, s...)
}

// appendExtra appends the last member, "extra", unless it would be empty.
func appendExtra(b []byte, members []member) []byte {
	if len(members) == 0 {
		return b
	}
	return appendMembers(append(b, `,"extra":`...), members)
}

func appendMembers(b []byte, members []member) []byte {
	b = append(b, '{')
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, m.name...), ':')
		b = appendCompact(b, m.value)
	}
	return append(b, '}')
}

// compactOptions remove white space and change nothing else. They skip checks that the
// parser has made.
var compactOptions = []jsontext.Options{
	jsontext.PreserveRawStrings(true),
	jsontext.AllowDuplicateNames(true),
	jsontext.AllowInvalidUTF8(true),
}

// appendCompact appends a JSON value without its white space. The value has been
// parsed, so that it cannot fail; if it did, the white space would stay.
func appendCompact(b, value []byte) []byte {
	if c := value[0]; c != '{' && c != '[' {
		return append(b, value...)
	}
	b, _ = jsontext.AppendFormat(b, value, compactOptions...)
	return b
}

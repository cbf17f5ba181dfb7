package callback

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// TimeLayout is the format of an event's receivedAt: RFC 3339 in UTC, always with
// microseconds.
const TimeLayout = "2006-01-02T15:04:05.000000Z"

// eventOverhead is how much longer than its callback an event usually is, at most.
const eventOverhead = 512

// Arrival is how the gateway learnt what a callback says.
type Arrival struct {
	At time.Time

	// Source is who called. It must be valid unless Fotor was asked: then nobody called.
	Source netip.Addr

	Origin inbox.Origin

	// Confirmed says whether Fotor's API was asked if it says the same.
	Confirmed Confirmation

	// Compared says that a final event is to be compared with others of its task: it has
	// an Outcome, and revision 1 until Revise gives it another one.
	Compared bool
}

// Confirmation is whether Fotor's API says the same as an event.
type Confirmation uint8

// The confirmations, with their value in an event's body.
const (
	NotAsked    Confirmation = iota // null: the gateway need not ask
	Confirmed                       // true
	Unconfirmed                     // false: it could not be asked
)

// Event makes the event of a callback. Its body is one line of JSON as
// schema/event.schema.json describes it. Its id depends on the callback's content alone.
//
// URLs have the prefixes of the rules replaced. Texts keep every character;
// undocumented members keep their spelling (escapes, digits) and order, but not the
// white space within them.
func (c *Callback) Event(a Arrival) *inbox.Event {
	a.At = a.At.UTC().Truncate(time.Microsecond)
	e := &inbox.Event{
		ID: c.id, FormerID: c.formerID, TaskID: c.TaskID, Type: c.Type, Status: c.Status, ReceivedAt: a.At, Origin: a.Origin,
	}
	if c.unmade {
		e.MakeFormerID = c.makeFormerID
	}
	if a.Compared && c.Status.Final() {
		e.Outcome, e.Revision = c.Outcome(), 1
	}
	scratch := takeScratch()
	scratch.b = c.appendBody(scratch.b, &a)
	e.Body = bytes.Clone(scratch.b) // no longer than it need be
	scratch.free()
	return e
}

// scratch is memory in which something is written that is needed only for a moment.
type scratch struct{ b []byte }

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// takeScratch returns an empty scratch. It should be freed, so that its memory is used again.
func takeScratch() *scratch {
	s := scratches.Get().(*scratch)
	s.b = s.b[:0]
	return s
}

func (s *scratch) free() {
	if cap(s.b) <= MaxPooledBody {
		scratches.Put(s)
	}
}

func (c *Callback) appendBody(b []byte, a *Arrival) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, c.id...)
	b = append(b, `",`...)
	b = c.appendDocumented(b, true)
	b = append(b, `,"sensitive":`...)
	b = strconv.AppendBool(b, c.sensitive())
	b = append(b, `,"extra":`...)
	b = appendMembers(b, c.extra)
	b = append(b, `,"receivedAt":"`...)
	b = AppendTime(b, a.At)
	return appendRevision(a.append(append(b, '"')), 1)
}

// AppendTime appends a time as TimeLayout has it, in a quarter of the time that package time
// takes for a layout that is not one of its own.
func AppendTime(b []byte, t time.Time) []byte {
	b = t.UTC().AppendFormat(b, time.RFC3339)
	point := len(b) - len("Z")
	b = strconv.AppendInt(b[:point], int64(time.Second/time.Microsecond)+int64(t.Nanosecond())/int64(time.Microsecond), 10)
	b[point] = '.' // in the place of the second that was added for the zeros
	return append(b, 'Z')
}

// append appends the members about the arrival.
func (a *Arrival) append(b []byte) []byte {
	if a.Source.IsValid() {
		b = append(b, `,"sourceIp":"`...)
		b = a.Source.Unmap().WithZone("").AppendTo(b)
		b = append(b, '"')
	} else {
		b = append(b, `,"sourceIp":null`...)
	}
	b = append(b, `,"origin":"`...)
	b = append(b, a.Origin.String()...)
	b = append(b, `","confirmed":`...)
	return append(b, [...]string{NotAsked: "null", Confirmed: "true", Unconfirmed: "false"}[a.Confirmed]...)
}

// nameRevision begins the last member of an event.
const nameRevision = `,"revision":`

// appendRevision appends the last member, and the end.
func appendRevision(b []byte, revision int) []byte {
	b = append(b, nameRevision...)
	return append(strconv.AppendInt(b, int64(revision), 10), '}')
}

// Revise gives an event made by Event, which is not stored yet, another revision.
func Revise(e *inbox.Event, revision int) error {
	at := bytes.LastIndex(e.Body, []byte(nameRevision))
	if at < 0 || string(bytes.TrimLeft(e.Body[at+len(nameRevision):], "0123456789")) != "}" {
		return fmt.Errorf("the body of event %s does not end with its revision", e.ID)
	}
	e.Body = appendRevision(bytes.Clone(e.Body[:at]), revision)
	e.Revision = revision
	return nil
}

// appendDocumented appends the documented members of an event that are made from the
// callback; extras says whether undocumented ones within them are appended, too.
func (c *Callback) appendDocumented(b []byte, extras bool) []byte {
	b = append(b, `"taskId":`...)
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
		b = c.avatars[i].append(b, c.rules, extras)
	}
	return append(b, ']')
}

func (a *avatar) append(b []byte, rules *Rules, extras bool) []byte {
	b = append(b, `{"templateId":`...)
	b = a.templateID.append(b)
	b = append(b, `,"images":[`...)
	for i := range a.images {
		if i > 0 {
			b = append(b, ',')
		}
		b = a.images[i].append(b, rules, extras)
	}
	b = append(b, ']')
	if extras {
		b = appendExtra(b, a.extra)
	}
	return append(b, '}')
}

func (i *avatarImage) append(b []byte, rules *Rules, extras bool) []byte {
	b = append(b, `{"id":`...)
	b = i.id.append(b)
	b = append(b, `,"url":`...)
	b = rules.appendURL(b, i.url)
	b = append(b, `,"sensitive":`...)
	b = strconv.AppendBool(b, i.sensitive())
	if extras {
		b = appendExtra(b, i.extra)
	}
	return append(b, '}')
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

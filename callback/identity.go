package callback

import (
	"slices"
	"strconv"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// The id of an event is made from the canonical form of its callback's content: of
// what the callback says, not of how it says it. For that the callback's object is
// written with its members in canonical order, and with these changes:
//
//   - A member that is null is left out, at every depth, documented or not: whether
//     null is written for an absent member is a setting of the serializer. An
//     element of an array is never left out, since its position counts.
//   - What the event does not tell from an absent member is left out too: an empty
//     resultUrl, avatarResult or images, and a hasHsfw of false for the whole
//     callback.
//   - hasNsfw is written as hasHsfw, which is true if either is.
//   - The two times are left out: they say when Fotor reported the outcome.
//
// The status is Fotor's number and URLs are as they arrived, so that no option of the
// gateway changes an id.

// The undocumented times of a callback, in milliseconds since 1970.
const (
	nameCreateTime = "createTime"
	nameUpdateTime = "updateTime"
)

func isTime(name []byte) bool {
	return string(name) == nameUpdateTime || string(name) == nameCreateTime
}

// The nesting levels of the documented objects.
const (
	levelCallback = 1
	levelAvatar   = 3
	levelImage    = 5
)

// identify makes the event's id, and the one that older versions gave it, which was
// made from all of the body, unless that may wait.
func (p *parser) identify() error {
	z := &p.canonicalizer
	key := inbox.TaskKey(p.c.TaskID)
	content := z.content(p.c)
	switch {
	case !z.omitted:
		p.c.id = inbox.KeyedID(key, content)
	case p.lazy && !z.omittedDeep:
		p.c.id, p.c.unmade = inbox.KeyedID(key, content), true
	default:
		p.content = append(p.content[:0], content...)
		p.c.id, p.c.formerID = inbox.KeyedIDs(key, p.content, z.formerContent(p.c))
	}
	return checkDepth(z.depth) // of the whole body: the former content omits nothing
}

// makeFormerID makes the id that older versions gave the event.
func (c *Callback) makeFormerID() string {
	p := parsers.Get().(*parser)
	id := inbox.NewID(c.TaskID, p.canonicalizer.formerContent(c))
	if c.size <= MaxPooledBody {
		parsers.Put(p)
	}
	return id
}

// content returns the canonical form of a callback's content. The next call
// overwrites it.
func (z *canonicalizer) content(c *Callback) []byte {
	z.out, z.depth, z.contentOnly, z.omitted, z.omittedDeep = z.out[:0], 0, true, false, false
	z.callback(c)
	z.src, z.members, z.contentOnly = nil, z.members[:0], false
	return z.out
}

// formerContent returns the canonical form of all that the callback's body has.
func (z *canonicalizer) formerContent(c *Callback) []byte {
	z.out = z.out[:0]
	z.callback(c)
	z.src, z.members = nil, z.members[:0]
	return z.out
}

func (z *canonicalizer) callback(c *Callback) {
	o := z.open(c.extra, levelCallback)
	o.array(nameAvatars, len(c.avatars), c.noAvatars, func(i int) { z.avatar(&c.avatars[i]) })
	o.text(nameBusinessID, c.businessID)
	o.flags(c.hsfw, c.nsfw, false)
	if z.contentOnly && c.resultURL.isNothing() {
		z.omitted = z.omitted || c.resultURL != nil
	} else {
		o.text(nameResultURL, c.resultURL)
	}
	o.name(nameStatus)
	z.out = strconv.AppendInt(z.out, int64(c.code), 10)
	o.text(nameTaskID, c.taskID)
	o.text(nameType, c.taskType)
	o.end()
}

func (z *canonicalizer) avatar(a *avatar) {
	o := z.open(a.extra, levelAvatar)
	o.array(nameImages, len(a.images), a.noImages, func(i int) { z.image(&a.images[i]) })
	o.text(nameTemplateID, a.templateID)
	o.end()
}

func (z *canonicalizer) image(i *avatarImage) {
	o := z.open(i.extra, levelImage)
	o.flags(i.hsfw, i.nsfw, true)
	o.text(nameImageID, i.id)
	o.text(nameImageURL, i.url)
	o.end()
}

// contentObject is an object that is being written. The caller names the documented
// members in canonical order; the undocumented ones are inserted where they belong.
// Without contentOnly nothing is left out or changed.
type contentObject struct {
	z     *canonicalizer
	level int
	next  int // index in z.others of the next undocumented member
	base  int // index in z.others of the first one
	begun bool
}

// namedMember is an undocumented member with its unquoted name.
type namedMember struct {
	text []byte
	member
}

func compareMembers(a, b namedMember) int { return compareNames(a.text, b.text) }

// open begins an object. It sorts a copy of the undocumented members: the event keeps
// them in the order in which they arrived.
func (z *canonicalizer) open(extra []member, level int) contentObject {
	base := len(z.others)
	for _, m := range extra {
		text, _ := unquote(m.name) // the parser has checked it
		z.others = append(z.others, namedMember{text, m})
	}
	if others := z.others[base:]; !slices.IsSortedFunc(others, compareMembers) {
		slices.SortFunc(others, compareMembers)
	}
	return contentObject{z: z, level: level, base: base, next: base}
}

// name begins the member of this name.
func (o *contentObject) name(name string) {
	for o.next < len(o.z.others) && compareNames(o.z.others[o.next].text, []byte(name)) < 0 {
		o.other()
	}
	o.separate()
	o.z.out = append(append(append(o.z.out, '"'), name...), `":`...)
}

// text writes a member that is a string or null, unless it is absent.
func (o *contentObject) text(name string, s jsonString) {
	switch {
	case s == nil:
	case o.z.contentOnly && s[0] == 'n':
		o.z.omitted = true
	default:
		o.name(name)
		o.z.out = append(o.z.out, s...)
	}
}

// array writes a member that is an array. If it has no elements, nothing is what the
// body has in its place.
func (o *contentObject) array(name string, elements int, nothing jsonString, write func(i int)) {
	z := o.z
	if elements == 0 {
		if z.contentOnly {
			z.omitted = z.omitted || nothing != nil
		} else {
			o.text(name, nothing)
		}
		return
	}
	o.name(name)
	for i := range elements {
		z.out = append(z.out, "[,"[min(i, 1)])
		write(i)
	}
	z.out = append(z.out, ']')
}

// flags writes the two spellings of a flag, which count as one: it is written if it is
// true, or if it is required.
func (o *contentObject) flags(hsfw, nsfw optionalBool, required bool) {
	z := o.z
	if !z.contentOnly {
		o.flag(nameHsfw, hsfw)
		o.flag(nameNsfw, nsfw)
		return
	}
	one := boolAbsent
	switch {
	case isTrue(hsfw, nsfw):
		one = boolTrue
	case required:
		one = boolFalse
	}
	o.flag(nameHsfw, one)
	z.omitted = z.omitted || hsfw != one || nsfw != boolAbsent
}

func (o *contentObject) flag(name string, value optionalBool) {
	if value != boolAbsent {
		o.name(name)
		o.z.out = append(o.z.out, [...]string{boolNull: "null", boolFalse: "false", boolTrue: "true"}[value]...)
	}
}

// other writes the next undocumented member.
func (o *contentObject) other() {
	z := o.z
	m := z.others[o.next]
	o.next++
	if z.contentOnly && (m.value[0] == 'n' || (o.level == levelCallback && isTime(m.text))) {
		z.omitted = true
		z.omittedDeep = z.omittedDeep || m.value[0] == '{' || m.value[0] == '['
		return
	}
	o.separate()
	z.string(m.name)
	z.out = append(z.out, ':')
	z.src = m.value
	z.value(0, o.level)
}

func (o *contentObject) separate() {
	separator := byte(',')
	if !o.begun {
		separator, o.begun = '{', true
	}
	o.z.out = append(o.z.out, separator)
}

// end writes the remaining members and ends the object. That has begun, since every
// documented object has a required member.
func (o *contentObject) end() {
	z := o.z
	for o.next < len(z.others) {
		o.other()
	}
	z.out = append(z.out, '}')
	clear(z.others[o.base:]) // lest they keep the body in memory
	z.others = z.others[:o.base]
}

package callback

import (
	"slices"
	"strconv"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// The id of an event is made from the canonical form of its callback's content:
// of what the callback says, and not of how it says it. So its object is written
// anew, its members in canonical order, with these differences to what came:
//
//   - A member that is null is left out, at every depth, documented or not:
//     whether a serializer writes null for what is absent is a setting of it.
//     An element of an array is never left out, since its place counts.
//   - What the event shows as if it were absent is left out too: an empty
//     resultUrl, avatarResult or images, and a hasHsfw of the whole that is
//     false.
//   - hasNsfw is written as hasHsfw, which is true if either is.
//   - The two times, which say when Fotor spoke of the outcome, are left out.
//
// The status is Fotor's number and URLs are as they came, so that no option of
// the gateway's changes an id.

// The undocumented times of a callback, in milliseconds since 1970.
const (
	nameCreateTime = "createTime"
	nameUpdateTime = "updateTime"
)

func isTime(name []byte) bool {
	return string(name) == nameUpdateTime || string(name) == nameCreateTime
}

// The levels of nesting of the objects that are documented.
const (
	levelCallback = 1
	levelAvatar   = 3
	levelImage    = 5
)

// identify makes the ids of the callback: the event's, and the one that older
// versions gave it, which was made from all that came.
func (p *parser) identify() error {
	z := &p.canonicalizer
	key := inbox.TaskKey(p.c.TaskID)
	p.c.id = inbox.KeyedID(key, z.content(p.c))
	if z.dropped {
		p.c.formerID = inbox.KeyedID(key, z.formerContent(p.c))
	}
	return checkDepth(z.depth) // of all that came: what was dropped is in the former
}

// content returns the canonical form of a callback's content. It is overwritten
// by the next call.
func (z *canonicalizer) content(c *Callback) []byte {
	z.out, z.depth, z.bare, z.dropped = z.out[:0], 0, true, false
	z.callback(c)
	z.src, z.members, z.bare = nil, z.members[:0], false
	return z.out
}

// formerContent returns the canonical form of the body that the callback was read
// from.
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
	if z.bare && c.resultURL.isNothing() {
		z.dropped = z.dropped || c.resultURL != nil
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

// contentObject is an object that is being written: documented members as they
// are named, which must be in canonical order, the others where they belong.
// Unless the canonicalizer is bare, it is written as it came.
type contentObject struct {
	z     *canonicalizer
	level int
	next  int // of the undocumented members that are still to come, in z.others
	base  int // the first of them
	begun bool
}

// namedMember is an undocumented member with the text of its name.
type namedMember struct {
	text []byte
	member
}

func compareMembers(a, b namedMember) int { return compareNames(a.text, b.text) }

// open begins an object. It takes the undocumented members into an order of their
// own: the event keeps them as they came.
func (z *canonicalizer) open(extra []member, level int) contentObject {
	base := len(z.others)
	for _, m := range extra {
		text, _ := unquote(m.name) // the parser has found it to be valid
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

// text writes a member that is a string, or what is there in its place.
func (o *contentObject) text(name string, s jsonString) {
	switch {
	case s == nil:
	case o.z.bare && s[0] == 'n':
		o.z.dropped = true
	default:
		o.name(name)
		o.z.out = append(o.z.out, s...)
	}
}

// array writes a member that is an array of so many elements, or what is there
// in its place.
func (o *contentObject) array(name string, elements int, nothing jsonString, write func(i int)) {
	z := o.z
	if elements == 0 {
		if z.bare {
			z.dropped = z.dropped || nothing != nil
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

// flags writes the two spellings of a flag, which count as one: as true, or if
// it is required as false.
func (o *contentObject) flags(hsfw, nsfw optionalBool, required bool) {
	z := o.z
	if !z.bare {
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
	z.dropped = z.dropped || hsfw != one || nsfw != boolAbsent
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
	if z.bare && (m.value[0] == 'n' || (o.level == levelCallback && isTime(m.text))) {
		z.dropped = true
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

// end writes what is left. Every documented object has a member that is required.
func (o *contentObject) end() {
	z := o.z
	for o.next < len(z.others) {
		o.other()
	}
	z.out = append(z.out, '}')
	clear(z.others[o.base:]) // which would keep the body in memory
	z.others = z.others[:o.base]
}

package callback

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxPooledBody is the longest body whose parser is reused, in bytes: a parser grows with
// what it reads, to many times the length of a body that has little but names, and the
// memory for a rare giant should not be kept.
const MaxPooledBody = 64 << 10

// The documented members.
const (
	nameTaskID     = "taskId"
	nameStatus     = "status"
	nameType       = "type"
	nameBusinessID = "businessId"
	nameResultURL  = "resultUrl"
	nameAvatars    = "avatarResult"
	nameTemplateID = "templateId"
	nameImages     = "images"
	nameImageID    = "id"
	nameImageURL   = "url"
	nameHsfw       = "hasHsfw"
	nameNsfw       = "hasNsfw" // surely the intended spelling of hasHsfw; taken as that
)

const detailRequired = "is required"

// parser reads one body in a single pass. Its methods return an error only if the body
// is not JSON; anything else that is wrong they record as a problem, and read on.
type parser struct {
	body []byte // without a byte order mark
	mark int64  // length of the mark, in bytes
	src  bytes.Buffer
	dec  *jsontext.Decoder
	c    *Callback

	// statusSeen is true if there is a status, even an unusable one.
	statusSeen bool

	// template and image are the parser's place in avatarResult; -1 outside.
	template, image int

	// problems are those found so far. If there is any, the callback is not used.
	problems []Problem
	unlisted int // problems beyond maxProblems

	lazy          bool // see ParseLazily
	canonicalizer canonicalizer
	content       []byte // its canonical form, while another one is made
}

var parsers = sync.Pool{New: func() any {
	p := new(parser)
	p.dec = jsontext.NewDecoder(&p.src)
	return p
}}

// byteOrderMark may stand before the document (RFC 8259, section 8.1).
var byteOrderMark = []byte("\ufeff")

func newParser(body []byte, rules *Rules) *parser {
	p := parsers.Get().(*parser)
	p.body = bytes.TrimPrefix(body, byteOrderMark)
	p.mark = int64(len(body) - len(p.body))
	p.src = *bytes.NewBuffer(p.body)
	p.dec.Reset(&p.src)
	p.c = newCallback()
	p.c.rules, p.c.size = rules, len(body)
	p.statusSeen, p.template, p.image, p.lazy = false, -1, -1, false
	return p
}

// free makes the parser available again, without keeping anything of the body.
func (p *parser) free() {
	if len(p.body) > MaxPooledBody {
		return
	}
	p.body, p.src, p.c = nil, bytes.Buffer{}, nil
	p.problems, p.unlisted = nil, 0
	p.dec.Reset(&p.src)
	parsers.Put(p)
}

// document reads the whole body.
func (p *parser) document() error {
	switch kind := p.dec.PeekKind(); kind {
	case jsontext.KindBeginObject:
		if err := p.callback(); err != nil {
			return err
		}
	default:
		if _, err := p.value(); errors.Is(err, io.EOF) {
			return errors.New("empty; a JSON object is expected")
		} else if err != nil {
			return err
		}
		p.add("", "must be an object, not ", kindName(kind))
	}
	end := p.mark + p.dec.InputOffset()
	switch _, err := p.dec.ReadToken(); {
	case err == nil:
		return fmt.Errorf("more than one JSON value; the first ends at byte offset %d", end)
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

func (p *parser) callback() error {
	if err := p.object(p.c, &p.c.extra); err != nil {
		return err
	}
	p.require(nameTaskID, p.c.taskID != nil)
	p.require(nameStatus, p.statusSeen)
	p.require(nameType, p.c.taskType != nil)
	if len(p.problems) > 0 {
		return nil
	}
	taskID, err := unquote(p.c.taskID)
	if err != nil {
		return err
	}
	taskType, err := unquote(p.c.taskType)
	p.c.TaskID, p.c.Type = string(taskID), string(taskType)
	return err
}

// memberReader reads the documented members of one kind of object.
type memberReader interface {
	// member reads the value of the member of this name and returns true, if the name
	// is documented. Otherwise it reads nothing.
	member(p *parser, name []byte) (documented bool, err error)
}

func (c *Callback) member(p *parser, name []byte) (documented bool, err error) {
	switch string(name) {
	case nameTaskID:
		c.taskID, err = p.text(nameTaskID, true)
	case nameStatus:
		c.code, c.Status, err = p.status()
	case nameType:
		c.taskType, err = p.text(nameType, true)
	case nameBusinessID:
		c.businessID, err = p.text(nameBusinessID, false)
	case nameResultURL:
		c.resultURL, err = p.url(nameResultURL, false)
	case nameAvatars:
		c.noAvatars, err = p.array(nameAvatars, &p.template, (*parser).avatarElement)
	case nameHsfw:
		c.hsfw, err = p.flag(nameHsfw)
	case nameNsfw:
		c.nsfw, err = p.flag(nameNsfw)
	default:
		return false, nil
	}
	return true, err
}

func (p *parser) avatarElement() error {
	if len(p.problems) > 0 {
		p.c.avatars = p.c.avatars[:0]
	}
	a := p.c.addAvatar()
	if err := p.object(a, &a.extra); err != nil {
		return err
	}
	p.require(nameTemplateID, a.templateID != nil)
	return nil
}

func (a *avatar) member(p *parser, name []byte) (documented bool, err error) {
	switch string(name) {
	case nameTemplateID:
		a.templateID, err = p.text(nameTemplateID, true)
	case nameImages:
		a.noImages, err = p.array(nameImages, &p.image, (*parser).imageElement)
	default:
		return false, nil
	}
	return true, err
}

func (p *parser) imageElement() error {
	a := &p.c.avatars[len(p.c.avatars)-1]
	if len(p.problems) > 0 {
		a.images = a.images[:0]
	}
	a.images = append(a.images, avatarImage{})
	i := &a.images[len(a.images)-1]
	if err := p.object(i, &i.extra); err != nil {
		return err
	}
	p.require(nameImageID, i.id != nil)
	p.require(nameImageURL, i.url != nil)
	p.require(nameHsfw, i.hsfw > boolNull || i.nsfw > boolNull)
	return nil
}

func (i *avatarImage) member(p *parser, name []byte) (documented bool, err error) {
	switch string(name) {
	case nameImageID:
		i.id, err = p.text(nameImageID, true)
	case nameImageURL:
		i.url, err = p.url(nameImageURL, true)
	case nameHsfw:
		i.hsfw, err = p.flag(nameHsfw)
	case nameNsfw:
		i.nsfw, err = p.flag(nameNsfw)
	default:
		return false, nil
	}
	return true, err
}

// object reads an object, which must be next in the decoder, and appends its
// undocumented members to extra.
func (p *parser) object(r memberReader, extra *[]member) error {
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	for p.dec.PeekKind() != jsontext.KindEndObject {
		quoted, err := p.value()
		if err != nil {
			return err
		}
		name, err := unquote(quoted)
		if err != nil {
			return err
		}
		documented, err := r.member(p, name)
		if err != nil {
			return err
		}
		if documented {
			continue
		}
		value, err := p.value()
		if err != nil {
			return err
		}
		*extra = append(*extra, member{quoted, value})
	}
	_, err := p.dec.ReadToken()
	return err
}

// array reads an optional array of objects, each with element, keeping index at the
// current one. If there is no element, it returns what stands in their place.
func (p *parser) array(name string, index *int, element func(*parser) error) (nothing jsonString, err error) {
	switch kind := p.dec.PeekKind(); kind {
	case jsontext.KindBeginArray:
	case jsontext.KindNull:
		return jsonNull, p.skip()
	default:
		return nil, p.wrongType(name, "an array", kind)
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return nil, err
	}
	nothing = emptyArray
	for *index = 0; p.dec.PeekKind() != jsontext.KindEndArray; *index++ {
		nothing = nil
		if kind := p.dec.PeekKind(); kind == jsontext.KindBeginObject {
			err = element(p)
		} else {
			err = p.wrongType("", "an object", kind)
		}
		if err != nil {
			return nil, err
		}
	}
	*index = -1
	_, err = p.dec.ReadToken()
	return nothing, err
}

// value reads the next value, or the name of a member, and returns its bytes in the
// body. Unlike those that the decoder returns, they stay valid.
func (p *parser) value() ([]byte, error) {
	v, err := p.dec.ReadValue()
	if err != nil {
		return nil, err
	}
	end := int(p.dec.InputOffset())
	return p.body[end-len(v) : end : end], nil
}

func (p *parser) skip() error {
	_, err := p.dec.ReadToken()
	return err
}

func (p *parser) require(name string, present bool) {
	if !present {
		p.add(name, detailRequired)
	}
}

// add records a problem with the member of this name of the object that is being
// read, or with the object itself if the name is "". The parts of the detail are
// joined only if the problem is listed, since a body can have any number of them.
func (p *parser) add(name string, detail ...string) {
	if p.template >= 0 && len(p.problems) >= maxProblems {
		p.unlisted++
		return
	}
	var pointer []byte
	if p.template >= 0 {
		pointer = strconv.AppendInt(append(pointer, "/"+nameAvatars+"/"...), int64(p.template), 10)
	}
	if p.image >= 0 {
		pointer = strconv.AppendInt(append(pointer, "/"+nameImages+"/"...), int64(p.image), 10)
	}
	if name != "" {
		pointer = append(append(pointer, '/'), name...)
	}
	p.problems = append(p.problems, Problem{Pointer: string(pointer), Detail: strings.Join(detail, "")})
}

package dashboard

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/show"
)

// This file finds the places in a body that problems are about, and cuts the body into
// pieces so that a page can mark them.

// place is a part of a body, in bytes. It is empty for something that is missing at the
// end of the body.
type place struct{ from, to int }

// nowhere is the place of a problem that is about the whole body, or about nothing that
// could be found in it.
var nowhere = place{-1, -1}

// wanted is a tree of the values that problems point at.
type wanted struct {
	problems []int
	members  map[string]*wanted // also the elements of an array, by their numbers
}

// offsetInDetail is how a problem says where a body is not JSON.
var offsetInDetail = regexp.MustCompile(`at byte offset ([0-9]{1,9})$`)

// placesOf returns the place of each problem. A value is marked from end to end, but of an
// object or array only the bracket that opens it; so do those in which a member is
// missing. It reads the body once, and no deeper than the pointers go.
func placesOf(body []byte, problems []control.Problem) []place {
	places := make([]place, len(problems))
	root := new(wanted)
	for i, p := range problems {
		places[i] = nowhere
		if offset := offsetInDetail.FindStringSubmatch(p.Detail); offset != nil {
			at, _ := strconv.Atoi(offset[1]) // it has nine digits at most
			places[i] = around(body, at)
			continue
		}
		at := root
		for name := range jsontext.Pointer(p.Pointer).Tokens() {
			if at.members[name] == nil {
				if at.members == nil {
					at.members = make(map[string]*wanted)
				}
				at.members[name] = new(wanted)
			}
			at = at.members[name]
		}
		if p.Pointer != "" {
			at.problems = append(at.problems, i)
		}
	}
	document := bytes.TrimPrefix(body, []byte("\ufeff"))
	l := locator{
		dec:    jsontext.NewDecoder(bytes.NewBuffer(document), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)),
		places: places, skipped: len(body) - len(document),
	}
	_ = l.value(root) // what stands before a fault of the syntax is found
	return places
}

// around is the place of what begins at an offset: a name or text, or one character.
func around(body []byte, at int) place {
	if at >= len(body) {
		return place{len(body), len(body)}
	}
	if body[at] == '"' {
		if value, err := jsontext.NewDecoder(bytes.NewBuffer(body[at:]), jsontext.AllowInvalidUTF8(true)).ReadValue(); err == nil {
			return place{at, at + len(value)}
		}
	}
	_, size := utf8.DecodeRune(body[at:])
	return place{at, at + size}
}

// locator reads a document and notes where what is wanted is.
type locator struct {
	dec     *jsontext.Decoder
	places  []place
	skipped int // bytes before the document
}

// note gives problems a place of so many bytes, which end where the decoder is.
func (l *locator) note(problems []int, size int) {
	end := l.skipped + int(l.dec.InputOffset())
	for _, i := range problems {
		l.places[i] = place{end - size, end}
	}
}

func (l *locator) value(w *wanted) error {
	switch kind := l.dec.PeekKind(); kind {
	case jsontext.KindBeginObject, jsontext.KindBeginArray:
		return l.inside(w, kind == jsontext.KindBeginObject)
	default:
		value, err := l.dec.ReadValue()
		if err == nil {
			l.note(w.all(), len(value))
		}
		return err
	}
}

// inside reads an object or array.
func (l *locator) inside(w *wanted, object bool) error {
	if _, err := l.dec.ReadToken(); err != nil {
		return err
	}
	l.note(w.all(), 1) // those that are not found within it are missing there
	for i := 0; ; i++ {
		if kind := l.dec.PeekKind(); kind == jsontext.KindEndObject || kind == jsontext.KindEndArray {
			_, err := l.dec.ReadToken()
			return err
		}
		name := strconv.Itoa(i)
		if object {
			token, err := l.dec.ReadToken()
			if err != nil {
				return err
			}
			name = token.String()
		}
		inner := w.members[name]
		if inner == nil {
			if err := l.dec.SkipValue(); err != nil {
				return err
			}
			continue
		}
		if err := l.value(inner); err != nil {
			return err
		}
	}
}

// all returns the problems with a value and with what is in it.
func (w *wanted) all() []int {
	all := slices.Clone(w.problems)
	for _, inner := range w.members {
		all = append(all, inner.all()...)
	}
	return all
}

// piece is a part of a body as it is shown.
type piece struct {
	Skipped int64  // bytes before it that are not shown
	Text    string // what is not printable is made visible

	// Problems are the numbers of the problems that are here, from 1; none if the piece is
	// not marked.
	Problems []int
}

// What is shown of a mark that lies beyond the beginning of a long body, and what of the
// text before and after it, in bytes.
const (
	maxMark = 4 << 10
	beside  = 200
)

// markUp cuts a body into pieces. Of a long one it shows the beginning and what is around
// the marks. left is how many bytes after the last piece are not shown.
func markUp(body []byte, places []place, most int) (pieces []piece, left int64) {
	type mark struct {
		place
		problems []int
	}
	var marks []mark
	order := make([]int, 0, len(places))
	for i, p := range places {
		if p != nowhere {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return places[a].from - places[b].from })
	for _, i := range order {
		if last := len(marks) - 1; last >= 0 && (places[i] == marks[last].place || places[i].from < marks[last].to) {
			marks[last].to = max(marks[last].to, places[i].to)
			marks[last].problems = append(marks[last].problems, i+1)
			continue
		}
		marks = append(marks, mark{places[i], []int{i + 1}})
	}
	shown := runeStart(body, min(most, len(body))) // up to there
	at := 0
	plain := func(to int) {
		if to > at {
			pieces = append(pieces, piece{Text: show.Text(string(body[at:to]))})
			at = to
		}
	}
	for _, m := range marks {
		skipped := 0
		if from := runeStart(body, m.from-beside); from > max(shown, at) {
			plain(shown)
			skipped, at = from-at, from
		}
		first := len(pieces)
		plain(m.from)
		if skipped > 0 {
			pieces[first].Skipped = int64(skipped)
		}
		to := max(m.from, runeStart(body, min(m.to, max(most, m.from+maxMark))))
		pieces = append(pieces, piece{Text: show.Text(string(body[m.from:to])), Problems: m.problems})
		at = to
		if to == m.to { // of a mark that is cut, the rest is not shown as if it were beside it
			shown = max(shown, runeStart(body, min(to+beside, len(body))))
		}
	}
	plain(shown)
	return pieces, int64(len(body) - at)
}

// runeStart returns the beginning of the character at an offset, or the offset if it is in
// none.
func runeStart(body []byte, at int) int {
	for from := at; from > max(0, at-utf8.UTFMax) && from < len(body); from-- {
		if utf8.RuneStart(body[from]) {
			if _, size := utf8.DecodeRune(body[from:]); from+size > at {
				return from
			}
			break
		}
	}
	return at
}

// ID is that of a mark on the page; "" if the piece is none.
func (p piece) ID() string {
	if len(p.Problems) == 0 {
		return ""
	}
	return "mark-" + strconv.Itoa(p.Problems[0])
}

// markedProblem is a problem with the id of its mark; "" if it has none.
type markedProblem struct {
	control.Problem
	Number int // on the page
	Mark   string
}

func markedProblems(problems []control.Problem, pieces []piece) []markedProblem {
	marked := make([]markedProblem, len(problems))
	for i, p := range problems {
		marked[i] = markedProblem{Problem: p, Number: i + 1}
	}
	for _, p := range pieces {
		for _, n := range p.Problems {
			marked[n-1].Mark = p.ID()
		}
	}
	return marked
}

package dashboard

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// problemsOf returns what the gateway says is wrong with a body.
func problemsOf(t *testing.T, body string) (problems []control.Problem) {
	t.Helper()
	_, err := callback.Parse([]byte(body), nil)
	invalid, ok := errors.AsType[*callback.InvalidError](err)
	require.True(t, ok, "%.100q is valid", body)
	for _, p := range invalid.Problems {
		problems = append(problems, control.Problem(p))
	}
	return problems
}

// marked returns a body with its marks as «text|numbers of the problems».
func marked(pieces []piece, left int64) string {
	var b strings.Builder
	for _, p := range pieces {
		if p.Skipped > 0 {
			fmt.Fprintf(&b, "[%d]", p.Skipped)
		}
		if len(p.Problems) > 0 {
			fmt.Fprintf(&b, "«%s|%s»", p.Text, strings.Trim(fmt.Sprint(p.Problems), "[]"))
		} else {
			b.WriteString(p.Text)
		}
	}
	if left > 0 {
		fmt.Fprintf(&b, "[%d]", left)
	}
	return b.String()
}

func TestProblemsAreMarkedInTheBody(t *testing.T) {
	for body, want := range map[string]string{
		// values
		`{"taskId": "", "type": "avatar", "status": 7}`:                           `{"taskId": «""|2», "type": "avatar", "status": «7|1»}`,
		`{"taskId":"x","type":4,"status":[1,2]}`:                                  `{"taskId":"x","type":«4|2»,"status":«[|1»1,2]}`,
		`{"taskId":"x","type":"a","status":0,"taskId2":4, "businessId":{"a":[]}}`: `{"taskId":"x","type":"a","status":0,"taskId2":4, "businessId":«{|1»"a":[]}}`,
		// what is missing is missing in an object
		`{}`: `«{|1 2 3»}`,
		`{"status": 1, "taskId": "t", "type": "a", "avatarResult": [{"templateId":"t","images":[{"id":"1"}, {"url":"http://a.example/","id":7,"hasHsfw":true}]}, 4]}`: `{"status": 1, "taskId": "t", "type": "a", "avatarResult": [{"templateId":"t","images":[«{|1 2»"id":"1"}, {"url":"http://a.example/","id":«7|3»,"hasHsfw":true}]}, «4|4»]}`,
		// names as JSON may have them
		"\ufeff" + `{"\u0074askId": 1, "type": "a", "status": 0}`: `\ufeff{"\u0074askId": «1|1», "type": "a", "status": 0}`,
		// no JSON
		`not json`:                           `n«o|1»t json`,
		`{"taskId": "x", `:                   `{"taskId": "x", «|1»`,
		`{"taskId": "x"} {`:                  `{"taskId": "x"}« |1»{`,
		`{"a": 1, "b": {"a": 1, "a" : 2}}`:   `{"a": 1, "b": {"a": 1, «"a"|1» : 2}}`,
		"{\"a\": \"\xff\xfe\"}":              `{"a": "«\xff|1»\xfe"}`,
		"{\"a\": \"\u202e\", \"b\": \x00}":   `{"a": "\u202e", "b": «\x00|1»}`,
		`{"taskId":"` + "\u202e" + `","a":}`: `{"taskId":"\u202e","a":«}|1»`,
		// nothing to mark
		``:    ``,
		`[1]`: `[1]`,
		strings.Repeat("[", 501) + strings.Repeat("]", 501): strings.Repeat("[", 501) + strings.Repeat("]", 501),
	} {
		problems := problemsOf(t, body)
		pieces, left := markUp([]byte(body), placesOf([]byte(body), problems), maxBody)
		require.Equal(t, want, marked(pieces, left), "%.100q: %v", body, problems)
	}
}

// Of a long body, the beginning and what is around the marks is shown.
func TestLongBodiesAreShownInParts(t *testing.T) {
	long := func(n int) string { return strings.Repeat("ä", n/2) }
	body := `{"taskId":"` + long(2000) + `","type":7,"a":"` + long(100) + `","status":9,"b":"` + long(6000) + `","businessId":` + "[" + long(3) + `],"c":"` + long(900) + `"}`
	problems := []control.Problem{{Pointer: "/type"}, {Pointer: "/status"}, {Detail: "x at byte offset 8190"}, {Detail: "x at byte offset 999999"}}
	pieces, left := markUp([]byte(body), placesOf([]byte(body), problems), 101)
	text := marked(pieces, left)
	require.Regexp(t, `^\{"taskId":"ä{45}\[1718\]ä+","type":«7\|1»,"a":"ä{50}","status":«9\|2»,"b":"ä+\[\d+\]ä+","businessId":\[ä\],"c":"ä+«ä\|3»ä+\[\d+\]ä{99}"\}«\|4»$`, text)
	shown := 0
	for _, p := range pieces {
		shown += int(p.Skipped) + len(p.Text)
	}
	require.Equal(t, len(body), shown+int(left), "each byte is shown or counted")

	// a long value is marked in part
	body = `{"a":1,"taskId":[],"type":{"` + long(10) + `":1},"status":"` + long(20_000) + `"}`
	pieces, left = markUp([]byte(body), placesOf([]byte(body), []control.Problem{{Pointer: "/status"}}), 20)
	require.Len(t, pieces, 2)
	require.InDelta(t, maxMark, len(pieces[1].Text), 4)
	require.Positive(t, left)
}

// Whatever is in a body, it is shown in bounded time and size.
func TestMarksOfHostileBodies(t *testing.T) {
	var many strings.Builder
	many.WriteString(`{"taskId":"x","type":"a","status":1,"avatarResult":[`)
	for i := range 60_000 {
		if i > 0 {
			many.WriteByte(',')
		}
		many.WriteString(`{"images":[{}]}`)
	}
	many.WriteString(`]}`)
	deep := `{"a":` + strings.Repeat(`{"a":`, 100_000)
	for name, body := range map[string]string{
		"many problems": many.String(), "deep": deep, "one string": `{"taskId":"` + strings.Repeat("\u202e", 350_000),
		"invalid": strings.Repeat("\xff", 1<<20), "pointers": `{"` + strings.Repeat("a/~b~1", 20) + `":1,"taskId":{}}`,
	} {
		problems := problemsOf(t, body)
		problems = append(problems, control.Problem{Pointer: "/a" + strings.Repeat("/a", 127)}, control.Problem{Pointer: "no pointer"}, control.Problem{Pointer: "/~2/"})
		pieces, left := markUp([]byte(body), placesOf([]byte(body), problems), maxBody)
		shown := 0
		for _, p := range pieces {
			shown += len(p.Text)
			left += p.Skipped
		}
		require.Less(t, shown, 6*(maxBody+len(problems)*(maxMark+2*beside)), name) // an escape has up to six bytes for one
		require.NotEmpty(t, pieces, name)
		require.Equal(t, len(body) > maxBody, left > 0, name)
	}
	require.GreaterOrEqual(t, len(problemsOf(t, many.String())), 100)
}

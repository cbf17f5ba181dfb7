package callback

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// requireFormerID checks the id that a callback had in older versions: it was
// made from the canonical form of the whole body.
func requireFormerID(t require.TestingT, body []byte, c *Callback) {
	former := inbox.NewID(c.TaskID, []byte(canonical(string(bytes.TrimPrefix(body, byteOrderMark)))))
	if former == c.id {
		former = ""
	}
	require.Equal(t, former, c.formerID, "%s", body)
}

// outcome is the content of a callback as JSON texts: documented strings, "" where one
// is absent, and undocumented members.
type outcome struct {
	taskID, status, kind, businessID, resultURL string
	sensitive                                   bool
	templates                                   []outcomeTemplate
	extra                                       []string // names and values, alternating
}

type outcomeTemplate struct {
	id     string
	images []outcomeImage
	extra  []string
}

type outcomeImage struct {
	id, url   string
	sensitive bool
	extra     []string
}

func (g *generator) outcome() outcome {
	o := outcome{
		taskID: g.text(1), status: g.pick("0", "1", "2"), kind: g.text(1),
		businessID: g.pick("", `""`, g.text(1)), resultURL: g.pick("", `"http://h"`, `"s3://img-pub-fotor/a"`),
		sensitive: rapid.Bool().Draw(g.T, "sensitive"), extra: g.extra(),
	}
	for range rapid.IntRange(0, 2).Draw(g.T, "templates") {
		template := outcomeTemplate{id: g.text(1), extra: g.extra()}
		for range rapid.IntRange(0, 2).Draw(g.T, "images") {
			template.images = append(template.images, outcomeImage{
				id: g.text(1), url: g.pick(`"http://h"`, `"s3://b/a"`), sensitive: rapid.Bool().Draw(g.T, "sensitive"), extra: g.extra(),
			})
		}
		o.templates = append(o.templates, template)
	}
	return o
}

// extra draws undocumented members that count, which null does not.
func (g *generator) extra() (extra []string) {
	for i := range rapid.IntRange(0, 2).Draw(g.T, "extra") {
		value := g.pick(g.any(2), "[null]", `""`, "{}", "0", "false")
		if value == "null" {
			value = "1"
		}
		extra = append(extra, fmt.Sprintf("%s%d", g.pick("x", "createTime", "hasHsfw", "a", "~"), i), value)
	}
	return extra
}

// longer returns a longer string.
func longer(s string) string { return strings.TrimSuffix(s, `"`) + `+"` }

// more adds an undocumented member.
func (g *generator) more(extra []string) []string {
	return append(slices.Clone(extra), "new", g.pick("[]", "1", `"x"`))
}

func (g *generator) oneOf(n int) int { return rapid.IntRange(0, n-1).Draw(g.T, "change") }

// change changes one thing about the outcome.
func (g *generator) change(o outcome) outcome {
	if n := len(o.templates); n > 0 && g.oneOf(2) == 0 {
		o.templates = slices.Clone(o.templates)
		if g.oneOf(5) == 0 {
			o.templates = append(o.templates, o.templates[n-1])
		} else {
			o.templates[n-1] = g.changeTemplate(o.templates[n-1])
		}
		return o
	}
	switch g.oneOf(7) {
	case 0:
		o.taskID = longer(o.taskID)
	case 1:
		o.status = map[string]string{"0": "1", "1": "2", "2": "0"}[o.status]
	case 2:
		o.kind = longer(o.kind)
	case 3:
		o.businessID = map[bool]string{true: `""`, false: ""}[o.businessID == ""]
	case 4:
		o.resultURL = map[bool]string{true: `"https://h"`, false: ""}[o.resultURL == ""]
	case 5:
		o.sensitive = !o.sensitive
	default:
		o.extra = g.more(o.extra)
	}
	return o
}

func (g *generator) changeTemplate(a outcomeTemplate) outcomeTemplate {
	if n := len(a.images); n > 0 && g.oneOf(2) == 0 {
		a.images = slices.Clone(a.images)
		if g.oneOf(5) == 0 {
			a.images = a.images[:n-1]
		} else {
			a.images[n-1] = g.changeImage(a.images[n-1])
		}
		return a
	}
	if g.oneOf(2) == 0 {
		a.id = longer(a.id)
	} else {
		a.extra = g.more(a.extra)
	}
	return a
}

func (g *generator) changeImage(i outcomeImage) outcomeImage {
	switch g.oneOf(4) {
	case 0:
		i.id = longer(i.id)
	case 1:
		i.url = longer(i.url)
	case 2:
		i.sensitive = !i.sensitive
	default:
		i.extra = g.more(i.extra)
	}
	return i
}

// tell writes a callback with that outcome, in one of many spellings.
func (g *generator) tell(o outcome) string {
	templates := make([]string, 0, len(o.templates))
	for _, a := range o.templates {
		images := make([]string, 0, len(a.images))
		for _, i := range a.images {
			images = append(images, g.object(append(g.others(i.extra), g.member("id", i.id), g.member("url", i.url), g.sensitive(i.sensitive, true))...))
		}
		templates = append(templates, g.object(append(g.others(a.extra), g.member("templateId", a.id), g.elements("images", images))...))
	}
	return g.pick("", "\ufeff") + g.object(append(g.others(o.extra),
		g.member("taskId", o.taskID), g.member("status", o.status), g.member("type", o.kind),
		g.absent("businessId", o.businessID), g.absent("resultUrl", o.resultURL, `""`),
		g.elements("avatarResult", templates), g.sensitive(o.sensitive, false),
		g.absent("createTime", g.pick("", "1730000000000", `"x"`)), g.absent("updateTime", g.pick("", "1730000000001", "[1]")))...)
}

// absent writes a member, or if its value is "", one of the forms in which it counts as
// absent.
func (g *generator) absent(name, value string, ways ...string) string {
	if value == "" {
		value = g.pick(append(ways, "", "null")...)
	}
	return g.member(name, value)
}

func (g *generator) elements(name string, elements []string) string {
	value := ""
	if len(elements) > 0 {
		value = "[" + strings.Join(elements, g.space()+","+g.space()) + "]"
	}
	return g.absent(name, value, "[]")
}

// sensitive writes the flag in either of its spellings, or in both.
func (g *generator) sensitive(value, required bool) string {
	both := func(hsfw, nsfw string) string {
		return strings.Trim(g.absent("hasHsfw", hsfw)+","+g.absent("hasNsfw", nsfw), ",")
	}
	switch {
	case value:
		return g.pick(both("true", ""), both("", "true"), both("true", "false"), both("false", "true"))
	case required:
		return g.pick(both("false", ""), both("", "false"), both("false", "false"))
	default:
		return g.pick(both("false", ""), both("", ""), both("", "false"))
	}
}

// others writes undocumented members, and perhaps one that does not count.
func (g *generator) others(extra []string) (members []string) {
	for i := 0; i < len(extra); i += 2 {
		members = append(members, g.member(extra[i], extra[i+1]))
	}
	return append(members, g.absent(g.pick("msg", "0"), ""))
}

func TestOneOutcomeHasOneID(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := &generator{T: t}
		o := g.outcome()
		first, second := g.tell(o), g.tell(o)
		want, same := requireParsed(t, first), requireParsed(t, second)
		require.Equal(t, want.id, same.id, "%s\n%s", first, second)
		require.Equal(t, documented(want), documented(same), "the events say the same")

		other := g.tell(g.change(o))
		require.NotEqual(t, want.id, requireParsed(t, other).id, "%s\n%s", first, other)
	})
}

// requireParsed parses a callback and checks its former id.
func requireParsed(t require.TestingT, body string) *Callback {
	callback, err := Parse([]byte(body), sampleRules)
	require.NoError(t, err, body)
	requireFormerID(t, []byte(body), callback)
	return callback
}

// documented returns the event of a callback without its undocumented members.
func documented(c *Callback) string {
	plain := *c
	plain.extra, plain.avatars = nil, slices.Clone(plain.avatars)
	for i := range plain.avatars {
		a := &plain.avatars[i]
		a.extra, a.images = nil, slices.Clone(a.images)
		for j := range a.images {
			a.images[j].extra = nil
		}
	}
	return string(plain.Event(sampleArrival).Body)
}

// The id that a callback had in older versions is known, however it is spelled.
func TestFormerIDsAreKnown(t *testing.T) {
	rules := newSampleRules(map[int]string{3: "failed", 4: "failed"}, nil)
	var another int
	rapid.Check(t, func(t *rapid.T) {
		g := generator{T: t}
		body := []byte(g.callback())
		callback, err := Parse(body, rules)
		require.NoError(t, err)
		requireFormerID(t, body, callback)
		if callback.formerID != "" {
			another++
		}
	})
	assert.Positive(t, another)
}

// The former id that is made later is the one that Parse makes at once, and a body that
// Parse refuses is refused as well.
func TestFormerIDsAreMadeLater(t *testing.T) {
	rules := newSampleRules(map[int]string{3: "failed", 4: "failed"}, nil)
	deep := callbackWith(`"updateTime":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth))
	shallow := callbackWith(`"createTime":{"a":[1,2]},"updateTime":1`)
	var later int
	rapid.Check(t, func(t *rapid.T) {
		g := generator{T: t}
		for _, body := range []string{g.callback(), shallow, deep} {
			want, wantErr := Parse([]byte(body), rules)
			got, err := ParseLazily([]byte(body), rules)
			require.Equal(t, wantErr, err)
			if err != nil {
				continue
			}
			e := got.Event(sampleArrival)
			former, err := e.Former()
			require.NoError(t, err)
			if e.MakeFormerID != nil {
				later++
				require.Empty(t, e.FormerID)
				require.Equal(t, want.formerID, e.MakeFormerID(), "it can be made again")
			}
			e.FormerID, e.MakeFormerID = want.formerID, nil
			require.Equal(t, want.Event(sampleArrival), e)
			wanted, err := e.Former()
			require.NoError(t, err)
			require.Equal(t, wanted, former)
		}
	})
	assert.Positive(t, later)
}

// A callback all of which counts has the id that it had in older versions.
func TestPlainCallbackKeepsItsID(t *testing.T) {
	for _, body := range []string{
		`{"taskId":"a","status":0,"type":"b"}`,
		callbackWith(`"resultUrl":"http://h","businessId":"","x":[null,{"y":1}]`),
		callbackWith(`"avatarResult":[{"templateId":"t","images":[{"id":"i","url":"http://h","hasHsfw":false}]}]`),
	} {
		assert.Empty(t, requireParsed(t, body).formerID, body)
	}
}

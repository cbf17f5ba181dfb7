package callback

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const schemaBase = "https://github.com/fotor-webhook/caddy-fotor-webhook/schema/"

// schemas are the published schemas, with formats asserted, and the rules that they
// describe.
type schemas struct {
	callback, event *jsonschema.Schema
	rules           *Rules
}

// loadSchemas loads the schemas. That of the callback lists the statuses of a handler
// without the option map_status; further ones are added.
func loadSchemas(t testing.TB, further ...any) schemas {
	t.Helper()
	callbackSchema := loadSchema(t, "callback")
	status := callbackSchema["properties"].(map[string]any)["status"].(map[string]any)
	status["enum"] = append(status["enum"].([]any), further...)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	require.NoError(t, compiler.AddResource(schemaBase+"callback.schema.json", callbackSchema))
	require.NoError(t, compiler.AddResource(schemaBase+"event.schema.json", loadSchema(t, "event")))
	compile := func(name string) *jsonschema.Schema {
		schema, err := compiler.Compile(schemaBase + name + ".schema.json")
		require.NoError(t, err)
		return schema
	}
	return schemas{callback: compile("callback"), event: compile("event"), rules: sampleRules}
}

func loadSchema(t testing.TB, name string) map[string]any {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(readFile(t, "../schema", name+".schema.json")))
	require.NoError(t, err)
	return doc.(map[string]any)
}

func validate(schema *jsonschema.Schema, body []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(bytes.TrimPrefix(body, byteOrderMark)))
	if err != nil {
		return err
	}
	return schema.Validate(doc)
}

// requireAgreement checks that Parse and the schemas agree about an I-JSON document. It
// reports whether both accept it as a callback.
func (s schemas) requireAgreement(t require.TestingT, body []byte) bool {
	callback, err := Parse(body, s.rules)
	schemaErr := validate(s.callback, body)
	if err != nil {
		var invalid *InvalidError
		require.ErrorAs(t, err, &invalid)
		require.False(t, invalid.NotJSON, "%s: %v", body, err)
		require.Error(t, schemaErr, "only Parse refuses %s: %v", body, err)
		return false
	}
	require.NoError(t, schemaErr, "only the schema refuses %s", body)
	event := callback.Event(sampleArrival)
	require.NoError(t, validate(s.event, event.Body), "event %s of callback %s", event.Body, body)
	return true
}

func TestSchemasAreValidAndSoAreTheirExamples(t *testing.T) {
	all := loadSchemas(t)
	for name, schema := range map[string]*jsonschema.Schema{"callback": all.callback, "event": all.event} {
		doc := loadSchema(t, name)
		require.Equal(t, schemaBase+name+".schema.json", doc["$id"])
		require.NotEmpty(t, doc["examples"])
		for _, example := range doc["examples"].([]any) {
			assert.NoError(t, schema.Validate(example), name)
		}
	}
}

// The example of the event schema is the event of an example of the callback schema.
func TestExampleEventIsThatOfTheCallback(t *testing.T) {
	examples := loadSchema(t, "callback")["examples"].([]any)
	body, err := json.Marshal(examples[len(examples)-1])
	require.NoError(t, err)
	event, err := json.Marshal(loadSchema(t, "event")["examples"].([]any)[0])
	require.NoError(t, err)
	assert.JSONEq(t, string(eventBody(t, requireValid(t, string(body)))), string(event))
}

func TestSchemasAgreeOnURLs(t *testing.T) {
	callback, event := loadSchema(t, "callback"), loadSchema(t, "event")
	assert.Equal(t, callback["$defs"].(map[string]any)["url"], event["$defs"].(map[string]any)["url"])
}

func TestSamplesAgreeWithTheSchemas(t *testing.T) {
	all := loadSchemas(t)
	for _, path := range validSamples(t) {
		assert.True(t, all.requireAgreement(t, readFile(t, path)), path)
	}
	for name, want := range invalidSamples(t) {
		if want.Status == http.StatusUnprocessableEntity {
			assert.False(t, all.requireAgreement(t, readFile(t, callbackSamples, "invalid", name)), name)
		}
	}
}

// The event schema must not be so loose that any event satisfies it.
func TestEventSchemaRefusesWhatIsNotAnEvent(t *testing.T) {
	all := loadSchemas(t)
	event := string(eventBody(t, requireValid(t, string(readFile(t, callbackSamples, "valid", "avatar-sensitive.json")))))
	require.NoError(t, validate(all.event, []byte(event)))
	for _, change := range []struct{ old, new string }{
		{`"status":"completed"`, `"status":"failed"`},
		{`"statusCode":1`, `"statusCode":2`},
		{`"statusCode":1`, `"statusCode":1000`},
		{`"statusCode":1`, `"statusCode":-1`},
		{`"status":"completed","statusCode":1`, `"status":"timed_out","statusCode":3`},
		{`"sensitive":true,"extra":{}`, `"sensitive":false,"extra":{}`},
		{`"businessId":null,`, ``},
		{`"resultUrl":null`, `"resultUrl":""`},
		{`"resultUrl":null`, `"resultUrl":"ftp://h"`},
		{`"extra":{}`, `"extra":{"taskId":1}`},
		{`"extra":{}`, `"extra":{},"more":1`},
		{`"images":[]`, `"images":[],"extra":{}`},
		{`"images":[]`, `"images":null`},
		{`.123456Z`, `.123Z`},
		{`.123456Z`, `.123456+00:00`},
		{`2026-11-23`, `2026-11-31`},
		{`"54.212.95.175"`, `"54.212.95.999"`},
		{`"54.212.95.175"`, `"::1%eth0"`},
		{`"id":"`, `"id":"X`},
	} {
		changed := strings.Replace(event, change.old, change.new, 1)
		require.NotEqual(t, event, changed, change.old)
		assert.Error(t, validate(all.event, []byte(changed)), "%s for %s", change.new, change.old)
	}
}

func TestGeneratedCallbacksAgreeWithTheSchemas(t *testing.T) {
	all := loadSchemas(t)
	mapped := loadSchemas(t, 3, 4)
	mapped.rules = newSampleRules(map[int]string{3: "failed", 4: "in_progress"}, map[string]string{"http://h/": "https://[::1]/?"})
	var accepted, refused int
	rapid.Check(t, func(t *rapid.T) {
		g := generator{T: t, faults: rapid.IntRange(0, 3).Draw(t, "faults")}
		body := []byte(g.callback())
		ok := mapped.requireAgreement(t, body)
		require.False(t, all.requireAgreement(t, body) && !ok, "more rules take more")
		if ok {
			accepted++
		} else {
			refused++
		}
	})
	assert.Positive(t, accepted)
	assert.Positive(t, refused)
}

func urlPattern(t testing.TB) *regexp.Regexp {
	t.Helper()
	pattern := loadSchema(t, "callback")["$defs"].(map[string]any)["url"].(map[string]any)["pattern"].(string)
	re, err := regexp.Compile(pattern)
	require.NoError(t, err)
	return re
}

func requireURLAgreement(t require.TestingT, pattern *regexp.Regexp, s string) bool {
	ok := isResultURL([]byte(s))
	require.Equal(t, pattern.MatchString(s), ok, "%q", s)
	if ok {
		u, err := url.Parse(s)
		require.NoError(t, err)
		require.Contains(t, []string{"http", "https", "s3"}, u.Scheme)
		require.NotEmpty(t, u.Hostname())
	}
	return ok
}

func TestURLPatternAgreesWithValidation(t *testing.T) {
	pattern := urlPattern(t)
	for _, u := range acceptedURLs {
		requireURLAgreement(t, pattern, u)
	}
	for _, u := range refusedURLs {
		requireURLAgreement(t, pattern, u)
	}
	for b := range 256 {
		for _, form := range []string{"http://%sh@h", "http://%s", "http://h:%s", "http://h/%s", "http://h?%s", "http://h#%s", "http://[%s::]", "http://%%%s0", "http://h/%%0%s"} {
			requireURLAgreement(t, pattern, fmt.Sprintf(form, string(rune(b))))
		}
	}
	var accepted, refused int
	rapid.Check(t, func(t *rapid.T) {
		if requireURLAgreement(t, pattern, drawURL(t)) {
			accepted++
		} else {
			refused++
		}
	})
	assert.Positive(t, accepted)
	assert.Positive(t, refused)
}

func drawURL(t *rapid.T) string {
	piece := rapid.SampledFrom([]string{
		"http", "https", "HTTPS", "s3", "S3", "ftp", ":", "//", "/", "?", "#", "@", "[", "]", "::", "1", "ffff", "1.2.3.4", "%25", "%E4", "%2F", "%zz", "%",
		"h", "a.b", "图", " ", "\x00", "\x7f", "\\", "a=b&c", "80", ".", "-", "~", "\u2028", "|", "<",
	})
	group := rapid.SampledFrom([]string{":", ":", ":", "::", "1", "ffff", "0", "12345", "g", "1.2.3.4", "256.1.1.1", "01.1.1.1", "%25eth0"})
	return rapid.OneOf(
		rapid.SampledFrom(acceptedURLs),
		rapid.SampledFrom(refusedURLs),
		rapid.Custom(func(t *rapid.T) string {
			return "http://" + strings.Join(rapid.SliceOfN(piece, 0, 7).Draw(t, "pieces"), "")
		}),
		rapid.Custom(func(t *rapid.T) string {
			return "http://[" + strings.Join(rapid.SliceOfN(group, 1, 16).Draw(t, "groups"), "") + "]"
		}),
		rapid.StringMatching(`(https?|s3)://([a-z@%2F]{0,5}@)?[a-z0-9.\-]{1,10}(:[0-9a]{0,5})?(/[a-z%0-9]{0,4}){0,3}([?][a-z=%&]{0,5})?(#[a-z%0-9]{0,4})?`),
		rapid.Custom(func(t *rapid.T) string {
			return strings.Join(rapid.SliceOfN(piece, 0, 10).Draw(t, "pieces"), "")
		}),
	).Draw(t, "url")
}

// generator draws callbacks as JSON text with random order, white space and spelling,
// and puts up to a number of faults into them.
type generator struct {
	*rapid.T

	faults int
	serial int // of undocumented members
}

// fault reports whether to put a fault here.
func (g *generator) fault() bool {
	if g.faults == 0 || rapid.IntRange(0, 9).Draw(g.T, "fault") > 0 {
		return false
	}
	g.faults--
	return true
}

func (g *generator) pick(options ...string) string {
	return rapid.SampledFrom(options).Draw(g.T, "pick")
}

func (g *generator) callback() string {
	if g.fault() {
		return g.any(2)
	}
	return g.object(
		g.member("taskId", g.text(1)),
		g.member("status", g.pick("0", "1", "2", "1.0", "2e0", "10e-1", "-0", "0.02E2", "3", "4.0", "0.03e2")),
		g.member("type", g.pick(`"avatar"`, `"videoEnhancer"`, g.text(1))),
		g.optional("businessId", g.text(0)),
		g.optional("resultUrl", g.pick(`""`, g.url())),
		g.optional("avatarResult", g.array(g.template)),
		g.optional("hasHsfw", g.pick("true", "false")),
		g.optional("hasNsfw", g.pick("true", "false")),
		g.undocumented(), g.undocumented(),
	)
}

func (g *generator) template() string {
	return g.object(g.member("templateId", g.text(1)), g.optional("images", g.array(g.image)), g.undocumented())
}

func (g *generator) image() string {
	flags := [][2]string{{"true", ""}, {"false", "null"}, {"null", "true"}, {"", "false"}, {"true", "false"}}
	flag := rapid.SampledFrom(flags).Draw(g.T, "flags")
	members := []string{g.member("id", g.text(1)), g.member("url", g.url()), g.undocumented()}
	for i, name := range []string{"hasHsfw", "hasNsfw"} {
		if flag[i] != "" {
			members = append(members, g.member(name, flag[i]))
		}
	}
	return g.object(members...)
}

// member draws a member; a fault leaves it out, or changes its value.
func (g *generator) member(name, value string) string {
	if g.fault() {
		value = g.pick("", "null", `""`, g.any(2), g.any(0), `[`+value+`]`, `{"value":`+value+`}`, g.url(), drawNumber(g.T, 30))
	}
	if value == "" {
		return ""
	}
	quoted := `"` + name + `"`
	if rapid.IntRange(0, 9).Draw(g.T, "escape") == 0 {
		quoted = fmt.Sprintf(`"\u%04x%s"`, name[0], name[1:])
	}
	return quoted + g.space() + ":" + g.space() + value
}

func (g *generator) optional(name, value string) string {
	switch rapid.IntRange(0, 3).Draw(g.T, "presence") {
	case 0:
		return ""
	case 1:
		return `"` + name + `":null`
	default:
		return g.member(name, value)
	}
}

func (g *generator) undocumented() string {
	if rapid.Bool().Draw(g.T, "undocumented") {
		return ""
	}
	// No name may occur twice in an object.
	g.serial++
	name := g.pick("", "TASKID", "hasnsfw", "extra", "sensitive", "createTime", "a/b~c", "图") + strconv.Itoa(g.serial)
	quoted, err := jsontext.AppendQuote(nil, name)
	require.NoError(g, err)
	return string(quoted) + ":" + g.any(3)
}

// object writes the members that are not "" in random order.
func (g *generator) object(members ...string) string {
	var present []string
	for _, m := range rapid.Permutation(members).Draw(g.T, "order") {
		if m != "" {
			present = append(present, m)
		}
	}
	return "{" + g.space() + strings.Join(present, g.space()+","+g.space()) + g.space() + "}"
}

func (g *generator) array(element func() string) string {
	elements := make([]string, rapid.IntRange(0, 3).Draw(g.T, "length"))
	for i := range elements {
		if elements[i] = element(); g.fault() {
			elements[i] = g.any(1)
		}
	}
	return "[" + strings.Join(elements, g.space()+",") + g.space() + "]"
}

func (g *generator) space() string { return g.pick("", "", "", " ", "\n\t") }

func (g *generator) text(least int) string {
	quoted, err := jsontext.AppendQuote(nil, rapid.StringN(least, 8, -1).Draw(g.T, "text"))
	require.NoError(g, err)
	return string(quoted)
}

func (g *generator) url() string {
	u := rapid.SampledFrom(acceptedURLs).Draw(g.T, "url")
	if g.fault() {
		u = drawURL(g.T)
	}
	quoted, err := jsontext.AppendQuote(nil, u)
	require.NoError(g, err)
	return string(quoted)
}

// any draws any JSON value of at most that depth.
func (g *generator) any(depth int) string {
	kinds := 5
	if depth > 0 {
		kinds = 7
	}
	switch rapid.IntRange(0, kinds-1).Draw(g.T, "kind") {
	case 0:
		return "null"
	case 1:
		return g.pick("true", "false")
	case 2:
		return drawNumber(g.T, 30)
	case 3:
		return g.text(0)
	case 4:
		return g.pick("{}", "[]", `""`, "0", "[null]")
	case 5:
		return g.array(func() string { return g.any(depth - 1) })
	default:
		return g.object(`"a":`+g.any(depth-1), `"taskId":`+g.any(depth-1), `"b":`+g.any(depth-1))
	}
}

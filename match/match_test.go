package match

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

const sample = `{"taskId":"39371b3800cc4a7e9e24867b0dfdf25b","status":1,"businessId":"75f15294e55540e198bb19cc0a068fd2","type":"avatar",
	"hasHsfw":false,"x":{"plan":"pro","seats":3,"ratio":0.5,"huge":1e999,"nothing":null},"plan":"pro",
	"avatarResult":[{"templateId":"t1","images":[{"id":"i1","url":"https://h/1.jpg","hasHsfw":false}]},
	{"templateId":"t2","images":[]}]}`

// eventOf makes the event of a callback, as the gateway does.
func eventOf(t testing.TB, body string) *inbox.Event {
	t.Helper()
	parsed, err := callback.Parse([]byte(body), nil)
	require.NoError(t, err)
	return parsed.Event(callback.Arrival{At: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), Source: netip.MustParseAddr("192.0.2.1")})
}

func compiled(t testing.TB, r Rules) *Matcher {
	t.Helper()
	m, err := Compile(&r)
	require.NoError(t, err)
	return m
}

func TestRulesAllHaveToFit(t *testing.T) {
	e := eventOf(t, sample)
	harmful := eventOf(t, strings.Replace(sample, `"hasHsfw":false}`, `"hasHsfw":true}`, 1))
	for name, test := range map[string]struct {
		rules Rules
		event *inbox.Event
		want  bool
	}{
		"its type":                   {Rules{Types: []string{"video", "avatar"}}, e, true},
		"another type":               {Rules{Types: []string{"video", "Avatar"}}, e, false},
		"its status":                 {Rules{Statuses: []string{"failed", "completed"}}, e, true},
		"another status":             {Rules{Statuses: []string{"in_progress"}}, e, false},
		"sensitive":                  {Rules{Sensitive: true}, harmful, true},
		"not sensitive":              {Rules{Sensitive: true}, e, false},
		"type, but not status":       {Rules{Types: []string{"avatar"}, Statuses: []string{"failed"}}, e, false},
		"status, but not expression": {Rules{Statuses: []string{"completed"}, Expressions: []string{"false"}}, e, false},
		"one of two expressions":     {Rules{Expressions: []string{"true", "false"}}, e, false},
		"all":                        {Rules{Types: []string{"avatar"}, Statuses: []string{"completed"}, Sensitive: true, Expressions: []string{"true"}}, harmful, true},
	} {
		fits, err := compiled(t, test.rules).Match(Of(test.event))
		require.NoError(t, err, name)
		assert.Equal(t, test.want, fits, name)
	}
	fits, err := (*Matcher)(nil).Match(Of(e))
	require.NoError(t, err)
	assert.True(t, fits, "without rules every event fits")
}

func TestExpressionsSeeTheWholeEvent(t *testing.T) {
	e := eventOf(t, sample)
	for _, expression := range []string{
		`event.id.startsWith("3")` + ` || size(event.id) > 10`,
		`event.taskId == "39371b3800cc4a7e9e24867b0dfdf25b"`,
		`event.type == "avatar" && event.status == "completed" && event.statusCode == 1`,
		`event.businessId != null && event.businessId.endsWith("fd2")`,
		`event.resultUrl == null && !has(event.resultUrl) && has(event.businessId)`,
		`event.avatars.size() == 2 && event.avatars[0].images[0].url == "https://h/1.jpg"`,
		`event.avatars.exists(a, a.images.exists(i, !i.sensitive))`,
		`!event.sensitive`,
		`event.extra.plan == "pro" && event.extra["x"].seats == 3 && event.extra.x.ratio < 1`,
		`event.extra.x.huge > 1e300 && event.extra.x.nothing == null`,
		`has(event.extra.x) && !has(event.extra.y)`,
		`has(event.extra.y) && event.extra.y == 1 || true`,
		`timestamp(event.receivedAt).getFullYear() == 2026 && event.sourceIp == "192.0.2.1"`,
		`event.type.matches("^(avatar|video)$") && "pro" in [event.extra.plan]`,
	} {
		fits, err := compiled(t, Rules{Expressions: []string{expression}}).Match(Of(e))
		require.NoError(t, err, expression)
		assert.True(t, fits, expression)
		fits, err = compiled(t, Rules{Expressions: []string{"!(" + expression + ")"}}).Match(Of(e))
		require.NoError(t, err, expression)
		assert.False(t, fits, expression)
	}
}

func TestWhatCannotBeJudgedGoesThere(t *testing.T) {
	e := eventOf(t, sample)
	for expression, want := range map[string]string{
		`event.extra.tier == "gold"`:                  "no such key: tier",
		`event.extra.plan`:                            "gives string: expected true or false",
		`event.avatars[7].templateId == "t"`:          "index out of bounds",
		`event.extra.plan > 3`:                        "no such overload",
		`dyn(event) == 3`:                             "", // whatever CEL says
		`event.businessId == null || event.extra.no`:  "no such key: no",
		`[1, 2].all(x, event.extra.plan.x == x)`:      "",
		`"a".matches(event.type + "(")`:               "missing closing )",
		`event.statusCode / (event.statusCode - 1)>0`: "division by zero",
	} {
		fits, err := compiled(t, Rules{Expressions: []string{expression}}).Match(Of(e))
		require.ErrorContains(t, err, want, expression)
		assert.True(t, fits, expression)
		assert.NotContains(t, err.Error(), "\n")

		fits, _ = compiled(t, Rules{Expressions: []string{expression, "false"}}).Match(Of(e))
		assert.False(t, fits, "what else excludes it still does")
		fits, _ = compiled(t, Rules{Types: []string{"video"}, Expressions: []string{expression}}).Match(Of(e))
		assert.False(t, fits, "what else excludes it still does")
	}
	for _, body := range []string{``, `[]`, `{`, `{"extra":`, `{"sensitive":3,"extra":}`, `nonsense`} {
		broken := &inbox.Event{ID: "x", Type: "avatar", Body: []byte(body)}
		fits, err := compiled(t, Rules{Sensitive: true, Expressions: []string{"event.extra.x == 1"}}).Match(Of(broken))
		require.Error(t, err, body)
		assert.True(t, fits, body)
	}
}

func TestWrongRulesAreRefused(t *testing.T) {
	for want, rules := range map[string]Rules{
		"match is empty: expected types, statuses, sensitive or expressions":                                {},
		"match type is empty: expected the type of a task, such as avatar":                                  {Types: []string{"a", ""}},
		`match type "a" given twice: expected each type once`:                                               {Types: []string{"a", "a"}},
		`match status "done": expected in_progress, completed, failed or lost`:                              {Statuses: []string{"done"}},
		`match status "failed" given twice: expected each status once`:                                      {Statuses: []string{"failed", "failed"}},
		`match expression "event.tpye == \"a\"": line 1, column 6: undefined field 'tpye'`:                  {Expressions: []string{`event.tpye == "a"`}},
		`match expression "event.statusCode": it gives int: expected true or false`:                         {Expressions: []string{"event.statusCode"}},
		`match expression "type == \"a\"": line 1, column 6: found no matching overload for '_==_' applied`: {Expressions: []string{`type == "a"`}},
		`match expression "now() > 1": line 1, column 4: undeclared reference to 'now' (in container '')`:   {Expressions: []string{"now() > 1"}},
		`match expression "": line 1, column 1: `:                                                           {Expressions: []string{""}},
		`match expression "event.type == ": line 1, column 15: `:                                            {Expressions: []string{"event.type == "}},
	} {
		m, err := Compile(&rules)
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "\n")
		assert.Nil(t, m)
	}
	m, err := Compile(nil)
	require.NoError(t, err)
	assert.Nil(t, m)
	_, err = Compile(&Rules{Expressions: []string{strings.Repeat("(", 100_000)}})
	require.Error(t, err)
	assert.Less(t, len(err.Error()), 1000)
}

func TestLinesAreThoseOfACaddyfile(t *testing.T) {
	r := &Rules{Types: []string{"a", "b"}, Statuses: []string{"failed"}, Sensitive: true, Expressions: []string{"true", "!false"}}
	assert.Equal(t, []string{"type a b", "status failed", "sensitive", "expression true", "expression !false"}, r.Lines())
	assert.Nil(t, (*Rules)(nil).Lines())
}

// A callback cannot keep the gateway busy, whatever an expression does with it.
func TestTheCostOfAnExpressionIsBounded(t *testing.T) {
	var list strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&list, `%d,`, i)
	}
	e := eventOf(t, `{"taskId":"t","status":1,"type":"a","list":[`+list.String()+`0],"text":"`+strings.Repeat("a", 300_000)+`"}`)
	for _, expression := range []string{
		`event.extra.list.all(x, event.extra.list.all(y, event.extra.list.all(z, x + y + z >= 0)))`,
		`event.extra.list.map(x, event.extra.text + event.extra.text).size() == 0`,
		`event.extra.list.all(x, event.extra.text.matches("(a|aa)+b?$"))`,
		`event.extra.list.all(x, event.extra.text.contains("b" + event.extra.text) == false)`,
		`event.extra.list.all(x, event.extra.list == event.extra.list)`,
		`event.extra.list.all(x, !(-1 in event.extra.list))`,
		`event.extra.list.all(x, {"x": [event.extra.list]} == {"x": [event.extra.list]})`,
	} {
		began := time.Now()
		fits, err := compiled(t, Rules{Expressions: []string{expression}}).Match(Of(e))
		require.ErrorContains(t, err, "cost", expression)
		assert.True(t, fits)
		assert.Less(t, time.Since(began), patience, "%s", expression)
	}
}

// patience is far more than the work within costLimit takes, on any machine.
const patience = 30 * time.Second

// An event is judged the same whether it is asked one question or many.
func TestMatchersDoNotDisturbEachOther(t *testing.T) {
	e := eventOf(t, sample)
	expressions := []string{
		`event.extra.plan == "pro"`, `event.extra.none == 1`, `event.avatars.size() == 2`, `event.sensitive`,
		`event.statusCode == 1`, `has(event.resultUrl)`, `event.extra.x.seats > 2`, `event.businessId == null`,
	}
	alone := make(map[string]bool)
	for _, expression := range expressions {
		alone[expression], _ = compiled(t, Rules{Expressions: []string{expression}}).Match(Of(e))
	}
	rapid.Check(t, func(rt *rapid.T) {
		shared := Of(e)
		for _, expression := range rapid.SliceOfN(rapid.SampledFrom(expressions), 1, 20).Draw(rt, "asked") {
			m, err := Compile(&Rules{Expressions: []string{expression}})
			require.NoError(rt, err)
			fits, _ := m.Match(shared)
			assert.Equal(rt, alone[expression], fits, expression)
		}
	})
}

// FuzzMatch: no expression and no callback makes a panic, and one that cannot be judged
// goes there.
func FuzzMatch(f *testing.F) {
	f.Add(`event.extra.plan == "pro"`, `{"plan":"pro"}`)
	f.Add(`event.extra.x.all(y, y.z > 1.5)`, `{"x":[{"z":1e400},{"z":-0}]}`)
	f.Add(`dyn(event)["extra"] == event`, `{"x":"\ud83d\ude00"}`)
	f.Add(`event`, `{}`)
	f.Add(`type(event) == type(1) || has(event.extra)`, `{"":null}`)
	f.Add(`fotor.Event{type: "a"} == event`, `{"":null}`)
	f.Fuzz(func(t *testing.T, expression, extra string) {
		m, err := Compile(&Rules{Expressions: []string{expression}})
		if err != nil {
			return
		}
		for _, body := range []string{`{"sensitive":false,"avatars":[],"extra":` + extra + `}`, extra} {
			fits, err := m.Match(Of(&inbox.Event{ID: "id", TaskID: "t", Type: "a", Body: []byte(body)}))
			if err != nil && !fits {
				t.Errorf("does not fit, though %v", err)
			}
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	e := eventOf(b, sample)
	for name, rules := range map[string]*Rules{
		"none":       nil,
		"type":       {Types: []string{"avatar"}},
		"sensitive":  {Sensitive: true},
		"cel type":   {Expressions: []string{`event.type == "avatar"`}},
		"cel extra":  {Expressions: []string{`event.extra.plan == "pro"`}},
		"cel images": {Expressions: []string{`event.avatars.exists(a, a.images.exists(i, i.sensitive))`}},
	} {
		m, err := Compile(rules)
		require.NoError(b, err)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = m.Match(Of(e))
			}
		})
	}
}

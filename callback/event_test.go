package callback

import (
	"flag"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

var updateEvents = flag.Bool("update-events", false, "write the golden events of the valid sample callbacks")

var (
	sampleTime   = time.Date(2026, 11, 23, 13, 0, 0, 123456789, time.FixedZone("CET", 3600))
	sampleSource = netip.MustParseAddr("54.212.95.175")

	sampleArrival = Arrival{At: sampleTime, Source: sampleSource}
)

func eventBody(t testing.TB, c *Callback) []byte {
	t.Helper()
	return c.Event(sampleArrival).Body
}

func TestValidSamplesBecomeTheirGoldenEvents(t *testing.T) {
	for _, path := range validSamples(t) {
		t.Run(path, func(t *testing.T) {
			callback, err := Parse(readFile(t, path), sampleRules)
			require.NoError(t, err)
			got := callback.Event(sampleArrival)
			golden := strings.TrimSuffix(path, ".json") + ".event.golden"
			if *updateEvents {
				require.NoError(t, os.WriteFile(golden, append(got.Body, '\n'), 0o600))
			}
			assert.Equal(t, string(readFile(t, golden)), string(got.Body)+"\n")
		})
	}
}

func TestEventCarriesWhatTheInboxNeeds(t *testing.T) {
	c := requireValid(t, `{"type":"b","status":2.0,"taskId":"\u0061"}`)
	got := c.Event(sampleArrival)
	assert.Equal(t, &inbox.Event{
		ID:         inbox.NewID("a", []byte(`{"status":2,"taskId":"a","type":"b"}`)),
		TaskID:     "a",
		Type:       "b",
		Status:     inbox.Failed,
		ReceivedAt: time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC),
		Body:       got.Body,
	}, got)
}

func TestEventNamesTimeAndSourcePlainly(t *testing.T) {
	c := requireValid(t, `{"taskId":"a","status":0,"type":"b"}`)
	for _, test := range []struct {
		at           time.Time
		source, want string
	}{
		{sampleTime, "::ffff:192.0.2.1", `"receivedAt":"2026-11-23T12:00:00.123456Z","sourceIp":"192.0.2.1","origin":"callback","confirmed":null,"revision":1}`},
		{time.Unix(0, 0), "2001:DB8::1", `"receivedAt":"1970-01-01T00:00:00.000000Z","sourceIp":"2001:db8::1","origin":"callback","confirmed":null,"revision":1}`},
		{time.Unix(0, 999), "fe80::1%eth0", `"receivedAt":"1970-01-01T00:00:00.000000Z","sourceIp":"fe80::1","origin":"callback","confirmed":null,"revision":1}`},
		{time.Unix(0, 1000), "::ffff:192.0.2.1%eth0", `"receivedAt":"1970-01-01T00:00:00.000001Z","sourceIp":"192.0.2.1","origin":"callback","confirmed":null,"revision":1}`},
	} {
		body := string(c.Event(Arrival{At: test.at, Source: netip.MustParseAddr(test.source)}).Body)
		_, tail, found := strings.Cut(body, `"extra":{},`)
		require.True(t, found, body)
		assert.Equal(t, test.want, tail)
	}
}

// An event outlives the request whose buffer held the body.
func TestEventDoesNotReferToTheBody(t *testing.T) {
	body := readFile(t, callbackSamples, "valid", "extra-everywhere.json")
	callback, err := Parse(body, sampleRules)
	require.NoError(t, err)
	event := callback.Event(sampleArrival)
	taskID, want := strings.Clone(event.TaskID), string(event.Body)
	clear(body)
	assert.Equal(t, taskID, event.TaskID)
	assert.Equal(t, want, string(event.Body))
}

func callbackWith(members string) string {
	return `{"taskId":"a","status":1,"type":"b",` + members + `}`
}

// Contents that are equal by RFC 8785 have the same id, however they are spelled.
func TestEqualContentsHaveEqualIDs(t *testing.T) {
	for _, group := range [][]string{
		{
			`{"taskId":"a","status":1,"type":"b"}`,
			" {\n\t\"type\" : \"b\",\r\n \"status\":1.0, \"taskId\":\"a\" } ",
			`{"status":1e0,"\u0074askId":"\u0061","type":"b"}`,
		},
		{
			callbackWith(`"x":{"b":[1,{"d":"/","c":"é"}],"a":null}`),
			callbackWith(`"x":{"a":null,"b":[1.0,{"c":"\u00e9","d":"\/"}]}`),
		},
		{callbackWith(`"x":0`), callbackWith(`"x":-0`), callbackWith(`"x":0.0`), callbackWith(`"x":-0e-9`), callbackWith(`"x":0e99999999999999999999999`)},
		{callbackWith(`"x":1000000`), callbackWith(`"x":1e6`), callbackWith(`"x":1000000.000`), callbackWith(`"x":0.01E+8`)},
		{callbackWith(`"x":1e23`), callbackWith(`"x":100000000000000000000000`), callbackWith(`"x":0.1e24`)},
		{callbackWith(`"x":9007199254740993`), callbackWith(`"x":9007199254740993.0`), callbackWith(`"x":9007199254740.993e3`), callbackWith(`"x":9007199254740993000e-3`)},
		{callbackWith(`"x":1e400`), callbackWith(`"x":10e399`), callbackWith(`"x":0.1e0401`)},
		{callbackWith(`"x":0.1`), callbackWith(`"x":1e-1`), callbackWith(`"x":0.10`)},
		{
			`{"taskId":"a","status":1,"type":"b"}`,
			"\ufeff" + `{"taskId":"a","status":1,"type":"b"}`,
			callbackWith(`"businessId":null`),
			callbackWith(`"resultUrl":null`), callbackWith(`"resultUrl":""`),
			callbackWith(`"avatarResult":null`), callbackWith(`"avatarResult":[]`),
			callbackWith(`"hasHsfw":null`), callbackWith(`"hasHsfw":false`), callbackWith(`"hasNsfw":false`), callbackWith(`"hasNsfw":null,"hasHsfw":false`),
			callbackWith(`"createTime":1730000000000`), callbackWith(`"updateTime":1,"createTime":{"a":null}`), callbackWith(`"\u0075pdateTime":null`),
			callbackWith(`"x":null`), callbackWith(`"":null,"z":null`),
		},
		{callbackWith(`"hasHsfw":true`), callbackWith(`"hasNsfw":true`), callbackWith(`"hasNsfw":true,"hasHsfw":false`)},
		{callbackWith(`"x":{}`), callbackWith(`"x":{"a":null}`), callbackWith(`"x":{"b" : null , "a": null}`)},
		{callbackWith(`"x":[{"a":1}]`), callbackWith(`"x":[{"b":null,"a":1,"c":null}]`)},
		{
			callbackWith(`"avatarResult":[{"templateId":"t","images":[{"id":"i","url":"http://h","hasHsfw":true}]}]`),
			callbackWith(`"avatarResult":[{"x":null,"templateId":"t","images":[{"hasNsfw":true,"url":"http://h","id":"i","y":null}]}]`),
		},
		{callbackWith(`"avatarResult":[{"templateId":"t"}]`), callbackWith(`"avatarResult":[{"templateId":"t","images":null}]`), callbackWith(`"avatarResult":[{"images":[],"templateId":"t"}]`)},
	} {
		want := requireValid(t, group[0]).id
		for _, body := range group[1:] {
			assert.Equal(t, want, requireValid(t, body).id, body)
		}
	}
}

// A repeat is dropped, so contents that differ in anything at all must have different
// ids.
func TestDifferentContentsHaveDifferentIDs(t *testing.T) {
	seen := map[string]string{}
	for _, body := range []string{
		`{"taskId":"a","status":1,"type":"b"}`,
		`{"taskId":"a","status":2,"type":"b"}`,
		`{"taskId":"A","status":1,"type":"b"}`,
		callbackWith(`"businessId":""`), callbackWith(`"businessId":"1"`), callbackWith(`"resultUrl":"http://h"`),
		callbackWith(`"hasHsfw":true`), callbackWith(`"avatarResult":[{"templateId":"t"}]`),
		callbackWith(`"avatarResult":[{"templateId":"t","createTime":1}]`), callbackWith(`"avatarResult":[{"templateId":"t","createTime":2}]`),
		callbackWith(`"CreateTime":1`), callbackWith(`"time":1`), callbackWith(`"x":{"updateTime":1}`), callbackWith(`"x":{"updateTime":2}`),
		callbackWith(`"avatarResult":[{"templateId":"t","images":[{"id":"i","url":"http://h","hasHsfw":false}]}]`),
		callbackWith(`"avatarResult":[{"templateId":"t","images":[{"id":"i","url":"http://h","hasHsfw":true}]}]`),
		callbackWith(`"avatarResult":[{"templateId":"t","images":[{"id":"i","url":"http://h","hasHsfw":true}]}],"hasHsfw":true`),
		callbackWith(`"x":1`), callbackWith(`"x":-1`), callbackWith(`"x":"1"`), callbackWith(`"x":[1]`), callbackWith(`"X":1`),
		callbackWith(`"x":""`), callbackWith(`"x":{}`), callbackWith(`"x":[]`), callbackWith(`"x":[null]`), callbackWith(`"x":[null,null]`), callbackWith(`"x":[{}]`), callbackWith(`"x":false`),
		callbackWith(`"x":[1,2]`), callbackWith(`"x":[2,1]`), callbackWith(`"x":[12]`),
		callbackWith(`"x":"é"`), callbackWith(`"x":"e\u0301"`),
		// RFC 8785 would merge each of these with a neighbour.
		callbackWith(`"x":9007199254740992`), callbackWith(`"x":9007199254740993`), callbackWith(`"x":9007199254740994`), callbackWith(`"x":-9007199254740993`),
		callbackWith(`"x":18446744073709551615`), callbackWith(`"x":18446744073709551616`), callbackWith(`"x":18446744073709551614`),
		callbackWith(`"x":9007199254740993.5`),
		callbackWith(`"x":1.7976931348623157e308`), callbackWith(`"x":1e309`), callbackWith(`"x":1e400`), callbackWith(`"x":1e401`), callbackWith(`"x":-1e400`),
		callbackWith(`"x":0`), callbackWith(`"x":5e-324`), callbackWith(`"x":4e-324`), callbackWith(`"x":1e-400`), callbackWith(`"x":1e-401`), callbackWith(`"x":-1e-400`),
		callbackWith(`"x":0.1`), callbackWith(`"x":0.1000000000000000000001`), callbackWith(`"x":0.1000000000000000055511151231257827`),
		callbackWith(`"x":1e9999999999999999999`), callbackWith(`"x":1e9999999999999999998`), callbackWith(`"x":1e-9999999999999999999`),
		callbackWith(`"x":10`), callbackWith(`"x":1e18446744073709551617`),
		callbackWith(`"x":123456789012345678`), callbackWith(`"x":123456789012345680`),
	} {
		id := requireValid(t, body).id
		assert.Empty(t, seen[id], body)
		seen[id] = body
	}
}

func canonical(text string) string {
	var c canonicalizer
	b, _ := c.canonicalize([]byte(text))
	return string(b)
}

func TestCanonicalFormIsRFC8785WhereThatIsExact(t *testing.T) {
	// The numbers of RFC 8785, appendix B, except those whose form is a different decimal
	// number.
	bits := []uint64{
		0, 1, 0x8000000000000001, 0x7fefffffffffffff, 0xffefffffffffffff, 0x4340000000000000, 0xc340000000000000, 0x4430000000000000,
		0x44b52d02c7e14af5, 0x44b52d02c7e14af6, 0x44b52d02c7e14af7, 0x444b1ae4d6e2ef4e, 0x444b1ae4d6e2ef4f, 0x444b1ae4d6e2ef50,
		0x3eb0c6f7a0b5ed8c, 0x3eb0c6f7a0b5ed8d, 0x41b3de4355555553, 0x41b3de4355555557, 0xbecbf647612f3696, 0x43143ff3c1cb0959,
	}
	for _, b := range bits {
		number := string(jsontext.AppendFloat(nil, math.Float64frombits(b), 64))
		assert.Equal(t, number, canonical(number))
	}
	for _, test := range []struct{ name, text, want string }{
		{
			"RFC 8785, section 3.2",
			`{"numbers": [333333333.3333333, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
				"string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}`,
			`{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`,
		},
		{
			"names in the order of UTF-16",
			`{"\u20ac":5,"\r":1,"\ufb33":7,"1":2,"\ud83d\ude00":6,"\u0080":3,"\u00f6":4}`,
			"{\"\\r\":1,\"1\":2,\"\u0080\":3,\"\u00f6\":4,\"\u20ac\":5,\"\U0001f600\":6,\"\ufb33\":7}",
		},
		{
			"numbers beyond float64, and none in strings",
			`[ "9007199254740993 -0 \\", "\\\"{[1.0", 9007199254740993, 333333333.3333333333 ]`,
			`["9007199254740993 -0 \\","\\\"{[1.0",9007199254740993e0,3333333333333333333e-10]`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, canonical(test.text))
		})
	}
}

// drawNumber draws a JSON number, often one of a few values in one of many spellings.
func drawNumber(t *rapid.T, maxExponent int) string {
	return rapid.OneOf(
		rapid.SampledFrom([]string{
			"0", "-0", "1", "1.0", "1e0", "10e-1", "2", "0.2e1", "3", "1.5", "-1", "100E-2", "0.0e5",
			"9007199254740992", "9007199254740993", "9007199254740993.0", "0.1", "1e-1", "1e22", "1e23", "123456789012345678",
		}),
		rapid.Custom(func(t *rapid.T) string {
			s := rapid.SampledFrom([]string{"", "-"}).Draw(t, "sign")
			s += rapid.StringMatching(`0|[1-9][09]{0,3}[0-9]{0,18}`).Draw(t, "whole")
			s += rapid.StringMatching(`(\.[09]{0,3}[0-9]{1,18})?`).Draw(t, "fraction")
			if rapid.Bool().Draw(t, "scientific") {
				s += rapid.SampledFrom([]string{"e", "E", "e+", "E-0", "e-"}).Draw(t, "e")
				s += fmt.Sprint(rapid.IntRange(0, maxExponent).Draw(t, "exponent"))
			}
			return s
		}),
	).Draw(t, "number")
}

func TestNumbersHaveOneFormEach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawNumber(t, 400), drawNumber(t, 400)
		if rapid.Bool().Draw(t, "same value") {
			// The same number with the decimal point elsewhere.
			d, ok := parseDecimal(nil, []byte(a))
			require.True(t, ok)
			b = string(appendDecimal(nil, decimal{d.negative, append(d.digits, "000"...), d.exponent - 3}))
			if len(d.digits) == 0 {
				b = "-0.0e-7"
			}
		}
		valueA, ok := new(big.Rat).SetString(a)
		require.True(t, ok)
		valueB, ok := new(big.Rat).SetString(b)
		require.True(t, ok)
		formA, formB := canonical(a), canonical(b)
		if valueA.Cmp(valueB) == 0 {
			require.Equal(t, formA, formB)
		} else {
			require.NotEqual(t, formA, formB)
		}
		value, ok := new(big.Rat).SetString(formA)
		require.True(t, ok)
		require.Zero(t, value.Cmp(valueA), "the form of %s is another number: %s", a, formA)

		// If the RFC 8785 form is the same number, it is the form here too.
		rfc := jsontext.Value(a)
		require.NoError(t, rfc.Canonicalize())
		if value, ok := new(big.Rat).SetString(string(rfc)); ok && value.Cmp(valueA) == 0 {
			require.Equal(t, string(rfc), formA)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"in-progress-minimal", "avatar-completed", "undocumented-fields"} {
		b.Run(name, func(b *testing.B) {
			body := readFile(b, callbackSamples, "valid", name+".json")
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(body, sampleRules); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestTimesHaveTheirLayout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(0, 253402300799).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
		require.Equal(t, at.Format(TimeLayout), string(AppendTime(nil, at)))
	})
}

// A callback in memory that another one has left is as one in new memory, and an event
// keeps its own.
func TestFreedCallbacks(t *testing.T) {
	const fields = `"avatarResult":[{"templateId":"t","images":[{"id":"i","url":"http://h","hasHsfw":true,"x":1},` +
		`{"id":"j","url":"http://h","hasHsfw":true}]},{"templateId":"u","x":2}]`
	bodies := []string{
		callbackWith(fields),
		callbackWith(`"avatarResult":[{"templateId":"v"}],"businessId":"b","x":3`),
		callbackWith(`"avatarResult":[{"templateId":"v","images":null},{"templateId":"w","images":[{"id":"k","url":"http://h","hasNsfw":false}]}]`),
		callbackWith(`"resultUrl":""`),
	}
	var fresh []*inbox.Event
	for _, body := range bodies {
		c := &Callback{rules: sampleRules, size: len(body)}
		p := newParser([]byte(body), sampleRules)
		p.c = c
		require.NoError(t, p.document())
		require.NoError(t, p.identify())
		fresh = append(fresh, c.Event(sampleArrival))
	}
	for range 50 {
		var events []*inbox.Event
		for _, body := range bodies {
			c, err := Parse([]byte(body), sampleRules)
			require.NoError(t, err)
			events = append(events, c.Event(sampleArrival))
			c.Free()
		}
		require.Equal(t, fresh, events)
	}
}

// BenchmarkEvent measures validation and normalization of a callback.
func BenchmarkEvent(b *testing.B) {
	body := readFile(b, callbackSamples, "valid", "avatar-completed.json")
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		callback, err := Parse(body, sampleRules)
		if err != nil {
			b.Fatal(err)
		}
		callback.Event(sampleArrival)
	}
}

// The inbox's limit is made from MaxEvent, so no event may be larger.
func TestEventIsAtMostTwiceItsCallback(t *testing.T) {
	const start = `{"taskId":"a","status":1,"type":"b"`
	for name, element := range map[string]string{
		"templates":             `{"templateId":"t"}`,
		"templates with extra":  `{"templateId":"t","":1}`,
		"templates, more extra": `{"templateId":"t","images":null,"":1,"x":2}`,
		"images":                `{"templateId":"t","images":[{"id":"i","url":"http://h","hasHsfw":true}]}`,
		"images with extra":     `{"templateId":"t","images":[{"id":"i","url":"http://h","hasHsfw":true,"":1}]}`,
	} {
		for _, count := range []int{0, 1, 10, 20_000} {
			body := start + "}"
			if count > 0 {
				body = start + `,"avatarResult":[` + strings.TrimSuffix(strings.Repeat(element+",", count), ",") + "]}"
			}
			callback, err := Parse([]byte(body), sampleRules)
			require.NoError(t, err, name)
			event := callback.Event(Arrival{At: sampleTime, Source: netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666")})
			require.LessOrEqual(t, len(event.Body), (*Rules)(nil).MaxEvent(int64(len(body))), "%d %s of a callback of %d bytes", count, name, len(body))
		}
	}
}

// BenchmarkHostileBody parses bodies of 1 MiB that are made to be slow: time must grow
// linearly with the length, whatever the shape.
func BenchmarkHostileBody(b *testing.B) {
	const size = 1 << 20
	fill := func(before, repeated, after string) string {
		return before + strings.Repeat(repeated, (size-len(before)-len(after))/len(repeated)) + after
	}
	var names strings.Builder
	for i := range 95_000 {
		fmt.Fprintf(&names, `"n%d":0,`, 95_000-i)
	}
	const deep = maxDepth - 1
	for name, body := range map[string]string{
		"problems": fill(`{"avatarResult":[`, `{},`, `{}]}`),
		"elements": fill(`{"avatarResult":[{"images":[`, `0,`, `0]}]}`),
		"names":    callbackWith(names.String() + `"n":0`),
		"depth":    callbackWith(`"x":` + strings.Repeat(`{"b":`, deep) + fill(`"`, "x", `"`) + strings.Repeat(`,"a":0}`, deep)),
		"too deep": fill("", "[", ""),
		"numbers":  fill(`{"taskId":"a","status":1,"type":"b","x":[`, `1.5,`, `0]}`),
		"digits":   fill(`{"taskId":"a","status":1,"type":"b","x":`, `1`, `}`),
		"exponent": fill(`{"taskId":"a","status":1,"type":"b","x":1e`, `9`, `}`),
		"images":   fill(`{"taskId":"a","status":1,"type":"b","avatarResult":[{"templateId":"t","images":[`, `{"id":"i","url":"http://h","hasHsfw":true},`, `{"id":"i","url":"http://h","hasHsfw":true}]}]}`),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if callback, err := Parse([]byte(body), sampleRules); err == nil {
					callback.Event(sampleArrival)
				}
			}
		})
	}
}

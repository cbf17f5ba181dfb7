package callback

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// documented returns an outcome without what does not count when it is compared.
func (o outcome) documented() outcome {
	o.extra, o.sensitive = nil, false
	templates := o.templates
	o.templates = nil
	for _, template := range templates {
		plain := outcomeTemplate{id: template.id}
		for _, image := range template.images {
			image.extra = nil
			plain.images = append(plain.images, image)
		}
		o.templates = append(o.templates, plain)
	}
	return o
}

// strange gives an outcome other undocumented members.
func (g *generator) strange(o outcome) outcome {
	o = o.documented()
	o.extra, o.sensitive = g.extra(), rapid.Bool().Draw(g.T, "sensitive")
	for i := range o.templates {
		o.templates[i].extra = g.extra()
		for j := range o.templates[i].images {
			o.templates[i].images[j].extra = g.extra()
		}
	}
	return o
}

// What is called and what the API says of the same task have the same key if and only if
// they agree in what is documented, however it is spelled.
func TestAnOutcomeIsWhatIsDocumented(t *testing.T) {
	var same, changed int
	rapid.Check(t, func(t *rapid.T) {
		g := &generator{T: t}
		o := g.outcome()
		first, second := g.tell(o), g.tell(g.strange(o))
		want := requireParsed(t, first).Outcome()
		require.Equal(t, want, requireParsed(t, second).Outcome(), "%s\n%s", first, second)

		other := g.change(o)
		told := g.tell(g.strange(other))
		got := requireParsed(t, told).Outcome()
		if reflect.DeepEqual(o.documented(), other.documented()) {
			same++
			require.Equal(t, want, got, "%s\n%s", first, told)
		} else {
			changed++
			require.NotEqual(t, want, got, "%s\n%s", first, told)
		}
	})
	assert.Positive(t, same)
	assert.Positive(t, changed)
}

// The URLs and the meaning of the status are those of the event.
func TestAnOutcomeIsComparedAfterNormalization(t *testing.T) {
	parse := func(rules *Rules, members string) inbox.OutcomeKey {
		c, err := Parse([]byte(callbackWith(members)), rules)
		require.NoError(t, err)
		return c.Outcome()
	}
	const image = `"avatarResult":[{"templateId":"t","images":[{"id":"i","hasHsfw":false,"url":"`
	for bucket, public := range map[string]string{
		`"resultUrl":"s3://img-pub-fotor/a.jpg"`:                    `"resultUrl":"https:\/\/pub-static.fotor.com/\u0061.jpg"`,
		image + `s3://img-pub-fotor/a.jpg"}]}]`:                     image + `https://pub-static.fotor.com/a.jpg"}]}]`,
		`"resultUrl":""`:                                            `"businessId":null,"avatarResult":[]`,
		`"avatarResult":[{"templateId":"t"}]`:                       `"avatarResult":[{"templateId":"t","images":null,"x":1}],"x":2`,
		`"hasHsfw":true`:                                            `"createTime":1,"updateTime":2,"creditsIncrement":3,"result":[{"url":"http://h"}],"msg":"x"`,
		strings.ReplaceAll(image, "Hsfw", "Nsfw") + `http://h"}]}]`: image + `http://h"}]}]`,
	} {
		assert.Equal(t, parse(sampleRules, bucket), parse(sampleRules, public), bucket)
	}
	for one, other := range map[string]string{
		`"resultUrl":"s3://other/a.jpg"`:      `"resultUrl":"https://pub-static.fotor.com/a.jpg"`,
		`"businessId":""`:                     `"businessId":null`,
		image + `http://h"}]}]`:               strings.Replace(image, "false", "true", 1) + `http://h"}]}]`,
		`"avatarResult":[{"templateId":"t"}]`: `"avatarResult":[]`,
	} {
		assert.NotEqual(t, parse(sampleRules, one), parse(sampleRules, other), one)
	}
	assert.NotEqual(t, parse(nil, `"resultUrl":"s3://img-pub-fotor/a"`), parse(sampleRules, `"resultUrl":"s3://img-pub-fotor/a"`), "another event, another outcome")

	timedOut := []byte(`{"taskId":"a","status":3,"type":"b"}`)
	var keys []inbox.OutcomeKey
	for _, meaning := range []string{"failed", "completed"} {
		c, err := Parse(timedOut, newSampleRules(map[int]string{3: meaning}, nil))
		require.NoError(t, err)
		keys = append(keys, c.Outcome())
	}
	assert.NotEqual(t, keys[0], keys[1])
	failed := requireValid(t, `{"taskId":"a","status":2,"type":"b"}`)
	assert.NotEqual(t, failed.Outcome(), keys[0], "the number is documented")
}

func TestOnlyFinalEventsThatAreComparedHaveAnOutcome(t *testing.T) {
	for status, want := range map[string]bool{"0": false, "1": true, "2": true} {
		c := requireValid(t, `{"taskId":"a","status":`+status+`,"type":"b"}`)
		assert.Zero(t, c.Event(sampleArrival).Outcome)
		assert.Zero(t, c.Event(sampleArrival).Revision)
		a := sampleArrival
		a.Compared = true
		e := c.Event(a)
		assert.Equal(t, want, !e.Outcome.IsZero(), status)
		assert.Equal(t, want, e.Revision == 1, status)
		_, _, err := e.Check()
		require.NoError(t, err)
		if want {
			assert.Equal(t, c.Outcome(), e.Outcome)
		}
	}
}

func TestEventSaysHowItWasLearnt(t *testing.T) {
	c := requireValid(t, `{"taskId":"a","status":1,"type":"b","x":",\"revision\":9}"}`)
	all := loadSchemas(t)
	for _, test := range []struct {
		arrival Arrival
		want    string
	}{
		{Arrival{Source: netip.MustParseAddr("192.0.2.1")}, `"sourceIp":"192.0.2.1","origin":"callback","confirmed":null,"revision":1}`},
		{Arrival{Source: netip.MustParseAddr("192.0.2.1"), Confirmed: Confirmed}, `"sourceIp":"192.0.2.1","origin":"callback","confirmed":true,"revision":1}`},
		{Arrival{Source: netip.MustParseAddr("192.0.2.1"), Confirmed: Unconfirmed}, `"sourceIp":"192.0.2.1","origin":"callback","confirmed":false,"revision":1}`},
		{Arrival{Origin: inbox.FromAPI}, `"sourceIp":null,"origin":"api","confirmed":null,"revision":1}`},
	} {
		test.arrival.At, test.arrival.Compared = sampleTime, true
		e := c.Event(test.arrival)
		assert.Equal(t, test.arrival.Origin, e.Origin)
		assert.True(t, strings.HasSuffix(string(e.Body), test.want), "%s", e.Body)
		require.NoError(t, validate(all.event, e.Body))

		before, want := string(e.Body), strings.TrimSuffix(string(e.Body), "1}")
		kept := e.Body
		for _, revision := range []int{2, 10, 1234567} {
			require.NoError(t, Revise(e, revision))
			assert.Equal(t, revision, e.Revision)
			assert.Equal(t, want, strings.TrimRight(string(e.Body), "0123456789}"))
			require.NoError(t, validate(all.event, e.Body))
		}
		require.NoError(t, Revise(e, 1))
		assert.Equal(t, before, string(e.Body))
		assert.Equal(t, before, string(kept), "the body of before is not changed")
	}
	for _, body := range []string{``, `{}`, `{"a":1,"revision":1,"b":2}`, `{"a":1,"revision":1`, `{"revision":1}`} {
		require.Error(t, Revise(&inbox.Event{Body: []byte(body)}, 2), body)
	}
}

// Nothing but a caller has an address.
func TestSchemaTellsOriginsApart(t *testing.T) {
	all := loadSchemas(t)
	body := string(requireValid(t, `{"taskId":"a","status":1,"type":"b"}`).Event(sampleArrival).Body)
	require.NoError(t, validate(all.event, []byte(body)))
	for _, change := range [][2]string{
		{`"callback"`, `"api"`},
		{`"sourceIp":"54.212.95.175"`, `"sourceIp":null`},
		{`"origin":"callback"`, `"origin":"other"`},
		{`"confirmed":null`, `"confirmed":"true"`},
		{`"revision":1`, `"revision":0`},
		{`"revision":1`, `"revision":null`},
		{`,"revision":1`, ``},
		{`,"confirmed":null`, ``},
		{`,"origin":"callback"`, ``},
	} {
		require.Contains(t, body, change[0])
		assert.Error(t, validate(all.event, []byte(strings.Replace(body, change[0], change[1], 1))), change[1])
	}
}

func BenchmarkOutcome(b *testing.B) {
	c := requireValid(b, string(readFile(b, callbackSamples, "valid", "avatar-completed.json")))
	b.ReportAllocs()
	for b.Loop() {
		c.Outcome()
	}
}

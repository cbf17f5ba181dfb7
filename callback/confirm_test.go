package callback

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// What is kept becomes the same event later as it would have become at once, whatever the
// callback, but for what is said of its confirmation.
func TestWhatIsKeptBecomesTheSameEvent(t *testing.T) {
	all := loadSchemas(t)
	rapid.Check(t, func(t *rapid.T) {
		g := &generator{T: t}
		body := g.tell(g.outcome())
		source := netip.MustParseAddr(rapid.SampledFrom([]string{"54.212.95.175", "2001:db8::1"}).Draw(t, "source"))
		c := requireParsed(t, body)
		e := c.Event(Arrival{At: sampleTime, Source: source, Compared: true})
		e.TraceParent, e.TraceState = "parent", "state"

		w, err := Keep(e, []byte(body), source)
		require.NoError(t, err)
		_, former, err := w.Check()
		require.NoError(t, err)
		require.NotEmpty(t, former)
		require.Equal(t, e.ID, w.FormerID, "it is a duplicate of its own event")
		require.NotEqual(t, e.ID, w.ID)
		require.Equal(t, e.ID[:16], w.ID[:16], "the same task")
		require.Equal(t, inbox.Unconfirmed, w.Status)
		require.LessOrEqual(t, len(w.Body), sampleRules.MaxEvent(int64(len(body))))

		k, err := ReadKept(w, sampleRules)
		require.NoError(t, err)
		require.Equal(t, strings.TrimSpace(strings.TrimPrefix(body, string(byteOrderMark))), string(k.Body))
		require.Equal(t, source, k.Source)
		for confirmation, says := range map[Confirmation]string{Confirmed: `"confirmed":true`, Unconfirmed: `"confirmed":false`} {
			later := k.Event(confirmation)
			require.NoError(t, validate(all.event, later.Body))
			later.Body = bytes.Replace(later.Body, []byte(says), []byte(`"confirmed":null`), 1)
			require.Equal(t, e, later)
		}
	})
}

func TestAMarkBeforeACallbackIsNotKept(t *testing.T) {
	body := "\ufeff {\"taskId\":\"a\", \"type\":\"b\", \"status\":1, \"x\":\"\\u003c<\"}\n"
	e := requireValid(t, body).Event(sampleArrival)
	w, err := Keep(e, []byte(body), sampleArrival.Source)
	require.NoError(t, err)
	k, err := ReadKept(w, nil)
	require.NoError(t, err)
	assert.Equal(t, strings.TrimSpace(strings.TrimPrefix(body, "\ufeff")), string(k.Body), "every character is as it was")
	assert.Equal(t, e.ID, k.Event(Confirmed).ID)
}

func TestWhatIsNotKeptCannotBeRead(t *testing.T) {
	good := inbox.Event{ID: "x", Status: inbox.Unconfirmed, Body: []byte(`{"callback":{"taskId":"a","type":"b","status":7}}`)}
	k, err := ReadKept(&good, nil)
	var invalid *InvalidError
	require.ErrorAs(t, err, &invalid, "the rules have changed")
	assert.JSONEq(t, `{"taskId":"a","type":"b","status":7}`, string(k.Body))

	for name, e := range map[string]inbox.Event{
		"no JSON":      {Status: inbox.Unconfirmed, Body: []byte(`{`)},
		"no callback":  {Status: inbox.Unconfirmed, Body: []byte(`{"id":"a"}`)},
		"other status": {Status: inbox.Completed, Body: good.Body},
	} {
		k, err := ReadKept(&e, nil)
		require.Error(t, err, name)
		assert.Nil(t, k, name)
	}
}

func TestContradictions(t *testing.T) {
	const image = `"avatarResult":[{"templateId":"t","images":[{"id":"i","url":"https://h/1","hasHsfw":false}]},{"templateId":"u"}]`
	for _, c := range []struct {
		called, api string
		want        []Problem
	}{
		{`"status":1,"resultUrl":"s3://img-pub-fotor/a"`, `"status":1,"resultUrl":"https://pub-static.fotor.com/a","createTime":1,"hasHsfw":true`, nil},
		{`"status":1,"resultUrl":""`, `"status":1`, nil},
		{`"status":1,"businessId":"b"`, `"status":1`, nil},
		{`"status":1,` + image, `"status":1,` + strings.Replace(image, "hasHsfw", "hasNsfw", 1), nil},
		{`"status":2`, `"status":1`, []Problem{{"/status", "Fotor's API says 1, completed"}}},
		{`"status":1,"businessId":"b"`, `"status":1,"businessId":"c"`, []Problem{{"/businessId", "Fotor's API says otherwise"}}},
		{`"status":1,"resultUrl":"http://h"`, `"status":1`, []Problem{{"/resultUrl", "Fotor's API says otherwise"}}},
		{`"status":1`, `"status":1,"resultUrl":"http://h"`, []Problem{{"/resultUrl", "Fotor's API says otherwise"}}},
		{`"status":1,` + image, `"status":1`, []Problem{{"/avatarResult", "Fotor's API has 0 templates"}}},
		{`"status":1,` + image, `"status":1,` + strings.Replace(image, "h/1", "h/2", 1), []Problem{{"/avatarResult/0", "Fotor's API says otherwise"}}},
		{`"status":1,` + image, `"status":1,` + strings.Replace(image, "false", "true", 1), []Problem{{"/avatarResult/0", "Fotor's API says otherwise"}}},
	} {
		called := requireParsed(t, `{"taskId":"a","type":"b",`+c.called+`}`)
		api := requireParsed(t, `{"taskId":"a","type":"b",`+c.api+`}`)
		assert.Equal(t, c.want, called.Contradictions(api), c.called)
	}
	one := requireValid(t, `{"taskId":"a","type":"b","status":1}`)
	assert.Equal(t, []Problem{{"/type", "Fotor's API says otherwise"}}, one.Contradictions(requireValid(t, `{"taskId":"a","type":"c","status":1}`)))

	many := func(url string) *Callback {
		avatars := strings.Repeat(`{"templateId":"t","images":[{"id":"i","url":"`+url+`","hasHsfw":false}]},`, 1000)
		return requireValid(t, `{"taskId":"a","type":"b","status":1,"avatarResult":[`+strings.TrimSuffix(avatars, ",")+`]}`)
	}
	assert.Len(t, many("http://a").Contradictions(many("http://b")), maxProblems)
}

// Two callbacks that do not contradict each other may differ in who they say the business
// is, if one does not say, and in nothing else that is documented.
func TestWhatHasTheSameOutcomeIsConfirmed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := &generator{T: t}
		o := g.outcome()
		one, same := requireParsed(t, g.tell(o)), requireParsed(t, g.tell(g.strange(o)))
		require.Empty(t, one.Contradictions(same))
		other := requireParsed(t, g.tell(g.strange(g.change(o))))
		if one.TaskID != other.TaskID {
			return
		}
		differ := one.Outcome() != other.Outcome()
		both := !one.businessID.isNothing() && !other.businessID.isNothing()
		if both || bytes.Equal(one.businessID.append(nil), other.businessID.append(nil)) {
			require.Equal(t, differ, len(one.Contradictions(other)) > 0)
		}
		a, b := one.Event(sampleArrival), other.Event(sampleArrival)
		require.Equal(t, !differ, SameOutcome(a.Body, b.Body), "%s\n%s", a.Body, b.Body)
	})
}

func TestAskedFor(t *testing.T) {
	c := requireValid(t, `{"taskId":"a","type":"b","status":1,"origin":"api"}`)
	assert.False(t, AskedFor(c.Event(sampleArrival).Body))
	assert.True(t, AskedFor(c.Event(Arrival{At: sampleTime, Origin: inbox.FromAPI}).Body))
	assert.False(t, AskedFor([]byte(`{`)))
}

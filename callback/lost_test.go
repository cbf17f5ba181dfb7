package callback

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

func TestALostTaskIsAnEvent(t *testing.T) {
	e := Lost("a\"b", "avatar", sampleTime)
	assert.JSONEq(t, `{"id":"`+e.ID+`","taskId":"a\"b","type":"avatar","status":"lost","statusCode":null,"businessId":null,
		"resultUrl":null,"avatars":[],"sensitive":false,"extra":{},"receivedAt":"2026-11-23T12:00:00.123456Z","sourceIp":null,
		"origin":"api","confirmed":null,"revision":1}`, string(e.Body))
	_, _, err := e.Check()
	require.NoError(t, err)
	assert.Equal(t, inbox.Lost, e.Status)
	assert.Equal(t, inbox.FromAPI, e.Origin)
	assert.Equal(t, e.ID, Lost("a\"b", "unknown", sampleTime.Add(1)).ID, "a task is lost once")
	assert.NotEqual(t, e.ID, Lost("ab", "avatar", sampleTime).ID)
	all := loadSchemas(t)
	for _, text := range []string{"a", "\x00", "\xff", "\u202e", "<script>", "\u2028"} {
		require.NoError(t, validate(all.event, Lost(text, text, sampleTime).Body), "%q", text)
	}
}
